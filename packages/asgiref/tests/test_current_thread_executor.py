"""`CurrentThreadExecutor` as code that imports it directly uses it."""

import threading
from concurrent.futures import Future

import pytest

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, async_to_sync


def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_work_from_other_threads_runs_on_the_waiting_thread():
    executor = CurrentThreadExecutor(None)
    future: Future[None] = Future()
    results = []

    def work():
        results.append(executor.submit(threading.current_thread).result(30))
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(30)
        future.set_result(None)

    thread = in_a_thread(work)
    executor.run_until_future(future)
    thread.join(30)
    assert results == [threading.current_thread()]


def test_work_submitted_before_the_future_is_done_still_runs():
    executor = CurrentThreadExecutor(None)
    future: Future[None] = Future()
    submitted: list[Future[int]] = []

    def work():
        submitted.extend(executor.submit(int, "5") for _ in range(3))
        future.set_result(None)

    in_a_thread(work).join(30)
    executor.run_until_future(future)
    assert [item.result(0) for item in submitted] == [5, 5, 5]


def test_a_closed_executor_passes_work_to_its_outer_executor():
    outer = CurrentThreadExecutor(None)
    inner = CurrentThreadExecutor(outer)
    done: Future[None] = Future()
    done.set_result(None)
    inner.run_until_future(done)
    future: Future[None] = Future()
    results = []

    def work():
        results.append(inner.submit(threading.current_thread).result(30))
        future.set_result(None)

    thread = in_a_thread(work)
    outer.run_until_future(future)
    thread.join(30)
    assert results == [threading.current_thread()]


def test_submitting_from_its_own_thread_is_an_error_that_names_the_function():
    with pytest.raises(RuntimeError, match=r"builtins\.int was submitted .* own thread"):
        CurrentThreadExecutor(None).submit(int)


def test_submitting_to_a_finished_executor_is_an_error():
    executor = CurrentThreadExecutor(None)
    done: Future[None] = Future()
    done.set_result(None)
    executor.run_until_future(done)
    errors = []

    def work():
        try:
            executor.submit(int)
        except RuntimeError as error:
            errors.append(str(error))

    in_a_thread(work).join(30)
    assert "already quit" in errors[0]


def test_running_it_in_another_thread_is_an_error():
    executor = CurrentThreadExecutor(None)
    errors = []

    def work():
        try:
            executor.run_until_future(Future())
        except RuntimeError as error:
            errors.append(str(error))

    in_a_thread(work).join(30)
    assert "only run in the thread that made it" in errors[0]


def test_the_bridge_exposes_its_executor_as_an_instance():
    async def current():
        return AsyncToSync.executors.current

    assert isinstance(async_to_sync(current)(), CurrentThreadExecutor)
