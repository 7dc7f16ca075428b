"""``executor=``: any executor works, even one that runs functions in another process."""

import asyncio
import concurrent.futures
import contextvars
import json
import multiprocessing
import os
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from asgiref.sync import sync_to_async

variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def processes():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def call(executor, function, *args, **kwargs):
    async def main():
        bridged = sync_to_async(function, thread_sensitive=False, executor=executor)
        return await bridged(*args, **kwargs)

    return asyncio.run(main())


def test_a_function_runs_in_another_process_with_its_arguments(processes):
    assert call(processes, os.getpid) != os.getpid()
    assert call(processes, json.loads, "[1.5, 2]", parse_int=str) == [1.5, "2"]


def test_an_exception_in_another_process_is_raised_in_the_caller(processes):
    with pytest.raises(ZeroDivisionError) as caught:
        call(processes, divmod, 1, 0)
    assert "Traceback" in str(caught.value.__cause__)


def test_a_stop_iteration_from_another_process_is_an_error_at_once(processes):
    with pytest.raises(RuntimeError, match="StopIteration"):
        call(processes, next, iter([]))


def test_an_unpicklable_argument_is_an_error_at_once(processes):
    # The message depends on the version: "Can't pickle local object" or "Can't get local object".
    with pytest.raises(Exception, match="local object"):
        call(processes, lambda: None)
    with pytest.raises(Exception, match=r"[Pp]ickle"):
        call(processes, len, threading.Lock())
    assert call(processes, len, "abc") == 3


def test_a_process_that_dies_is_an_error_at_once(processes):
    with pytest.raises(BrokenProcessPool):
        call(processes, os._exit, 1)


def test_several_processes_work_side_by_side():
    async def main(executor):
        length = sync_to_async(len, thread_sensitive=False, executor=executor)
        return await asyncio.gather(*(length("x" * size) for size in range(50)))

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert asyncio.run(main(executor)) == list(range(50))


@pytest.mark.skipif(
    not hasattr(concurrent.futures, "InterpreterPoolExecutor"), reason="new in Python 3.14"
)
def test_a_function_runs_in_another_interpreter():
    with concurrent.futures.InterpreterPoolExecutor(1) as executor:
        assert call(executor, json.loads, "[1, 2]", parse_int=str) == ["1", "2"]
        with pytest.raises(Exception, match="division"):
            call(executor, divmod, 1, 0)


class OnTheSpot(Executor):
    """An executor that runs each function before `submit` returns."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_an_executor_may_run_functions_on_the_spot():
    def work():
        variable.set("set")
        return threading.current_thread()

    async def main():
        bridged = sync_to_async(work, thread_sensitive=False, executor=OnTheSpot())
        return await bridged(), variable.get()

    assert asyncio.run(main()) == (threading.current_thread(), "set")


def test_an_executor_that_is_shut_down_makes_the_call_fail():
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        call(executor, len, "abc")


def test_an_executor_that_loses_a_call_makes_the_call_fail():
    class Losing(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_exception(OSError("the machine is gone"))
            return future

    with pytest.raises(OSError, match="the machine is gone"):
        call(Losing(), len, "abc")
