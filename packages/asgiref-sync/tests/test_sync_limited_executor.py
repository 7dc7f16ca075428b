"""`LimitedExecutor`: limits concurrent functions, on threads that serve one executor."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest
from probes import SOON, outcome
from programs import check_program

from asgiref.sync import LimitedExecutor, async_to_sync, report_threads, sync_to_async


def on(threads):
    return sync_to_async(thread_sensitive=False, executor=threads)


class Crowd:
    """Counts the functions inside at once; each stays until `enough` entered or `open` is set."""

    def __init__(self, enough):
        self.enough = enough
        self.inside = self.most = 0
        self.changed = threading.Condition()
        self.open = False

    def enter(self):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.open or self.most >= self.enough, 20)
            self.inside -= 1


@pytest.mark.asyncio
async def test_as_many_functions_run_at_once_as_the_limit_allows():
    threads = LimitedExecutor(3)
    crowd = Crowd(3)
    await asyncio.gather(*[on(threads)(crowd.enter)() for _ in range(9)])
    assert crowd.most == 3


@pytest.mark.asyncio
async def test_functions_that_a_function_submits_wait_until_it_ends():
    threads = LimitedExecutor(1)

    def fan_out():
        futures = [threads.submit(threading.current_thread) for _ in range(5)]
        return threading.current_thread(), futures

    thread, futures = await on(threads)(fan_out)()
    # One at a time, they need only the function's own thread.
    assert {await asyncio.wrap_future(future) for future in futures} == {thread}


def test_submitted_functions_count_as_well():
    threads = LimitedExecutor(2)
    crowd = Crowd(2)
    for future in [threads.submit(crowd.enter) for _ in range(6)]:
        future.result(20)
    assert crowd.most == 2


@pytest.mark.asyncio
async def test_a_thread_keeps_its_local_values_for_the_next_call():
    threads = LimitedExecutor(1, name="database")
    kept = threading.local()

    def open_connection():
        kept.connection = object()
        threading.current_thread().__dict__["__asgiref_handover__"] = [kept.__dict__.clear]
        return kept.connection, threading.current_thread().name

    connection, name = await on(threads)(open_connection)()
    assert await on(threads)(lambda: kept.connection)() is connection
    assert name == "database-1"


@pytest.mark.parametrize("how", ["async_to_sync", "waiting", "both"])
@pytest.mark.asyncio
async def test_a_function_that_waits_does_not_count(how):
    threads = LimitedExecutor(1)
    other = on(threads)(threading.current_thread)

    def wait_for_another():
        if how == "async_to_sync":
            return async_to_sync(other)()
        with threads.waiting():
            if how == "both":
                return async_to_sync(other)()
            return asyncio.run_coroutine_threadsafe(other(), loop).result(20)

    loop = asyncio.get_running_loop()
    assert (await on(threads)(wait_for_another)()).is_alive()
    # The count is still exact.
    crowd = Crowd(2)
    crowd.open = True
    await asyncio.gather(*[on(threads)(crowd.enter)() for _ in range(10)])
    assert crowd.most == 1


def test_waiting_elsewhere_does_nothing():
    threads = LimitedExecutor(1)
    with threads.waiting():
        assert threads.submit(int).result(20) == 0


@pytest.mark.asyncio
async def test_functions_that_block_have_their_own_threads():
    threads = LimitedExecutor(8)
    together = threading.Barrier(8)
    places = await asyncio.gather(*[on(threads)(together.wait)(20) for _ in range(8)])
    assert sorted(places) == list(range(8))


@pytest.mark.asyncio
async def test_one_call_after_the_other_needs_one_thread():
    threads = LimitedExecutor(8)
    seen = {await on(threads)(threading.current_thread)() for _ in range(100)}
    assert len(seen) == 1


@pytest.mark.asyncio
async def test_context_variables_propagate_in_both_directions():
    variable = contextvars.ContextVar("variable")
    variable.set("from the caller")
    threads = LimitedExecutor(1)

    def function():
        seen = variable.get()
        variable.set("from the function")
        return seen

    assert await on(threads)(function)() == "from the caller"
    assert variable.get() == "from the function"


@pytest.mark.asyncio
async def test_a_call_cancelled_in_the_queue_never_runs():
    threads = LimitedExecutor(1)
    gate, ran = threading.Event(), []
    first = asyncio.create_task(on(threads)(gate.wait)(20))
    second = asyncio.create_task(on(threads)(ran.append)(1))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    assert await first
    assert await on(threads)(lambda: ran)() == []


def test_shutdown_waits_and_ends_the_threads():
    done = []
    with LimitedExecutor(2, name="ending") as threads:
        for number in range(10):
            threads.submit(done.append, number)
    assert sorted(done) == list(range(10))
    assert [thread for thread in threading.enumerate() if thread.name.startswith("ending")] == []


def test_shutdown_of_an_unused_executor_needs_no_thread(monkeypatch):
    threads = LimitedExecutor(2)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)


def in_with_block(threads):
    with threads:
        pass


def in_coroutine_below(threads):
    async_to_sync(sync_to_async(threads.shutdown))()


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize("how", ["submitted", "called"])
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("ask", [LimitedExecutor.shutdown, in_with_block, in_coroutine_below])
def test_a_function_that_waits_for_its_own_executor_to_end_gets_an_error(ask, limit, how):
    threads = LimitedExecutor(limit)
    release = threading.Event()

    def end():
        release.wait(SOON)
        return outcome(ask, threads)

    async def call():
        task = asyncio.create_task(on(threads)(end)())
        await asyncio.sleep(0)
        return task

    async def main():
        if how == "called":
            first = await call()
        else:
            first = asyncio.wrap_future(threads.submit(end))
        later = asyncio.wrap_future(threads.submit(threading.current_thread))
        release.set()
        return await asyncio.wait_for(asyncio.gather(first, later), SOON)

    error, thread = asyncio.run(main())
    assert isinstance(error, RuntimeError)
    assert "wait=False" in str(error)
    # It is shut down anyway: it accepts no functions, and its threads end.
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)
    threads.shutdown()
    thread.join(SOON)
    assert not thread.is_alive()


@pytest.mark.timeout(20, method="thread")
def test_a_function_can_shut_down_its_own_executor_without_waiting():
    threads = LimitedExecutor(1)
    future = threads.submit(lambda: threads.shutdown(wait=False))
    assert future.result(SOON) is None
    threads.shutdown()


@pytest.mark.timeout(20, method="thread")
def test_a_function_can_wait_for_another_executor_to_end():
    threads, other = LimitedExecutor(1), LimitedExecutor(1)
    ended = other.submit(threading.current_thread)
    assert threads.submit(other.shutdown).result(SOON) is None
    assert not ended.result(SOON).is_alive()


@pytest.mark.parametrize("limit", [1, 2])
def test_an_executor_that_its_own_function_shuts_down_does_not_keep_the_process_alive(limit):
    check_program(
        f"""
        executor = LimitedExecutor({limit})
        future = executor.submit(executor.shutdown)
        future.add_done_callback(lambda future: print(type(future.exception()).__name__))
        """,
        output="RuntimeError",
    )


def test_shutdown_without_waiting_lets_running_functions_finish():
    threads = LimitedExecutor(1)
    gate = threading.Event()
    first, second = threads.submit(gate.wait, 20), threads.submit(threading.current_thread)
    threads.shutdown(wait=False)
    assert not first.done()
    gate.set()
    second.result(20).join(20)
    assert first.result(20)
    assert not second.result().is_alive()


@pytest.mark.asyncio
async def test_shutdown_can_cancel_queued_calls():
    threads = LimitedExecutor(1)
    begun, gate = threading.Event(), threading.Event()
    first = threads.submit(lambda: [begun.set(), gate.wait(20)][1])
    second = threads.submit(int)
    assert begun.wait(20)
    third = asyncio.create_task(on(threads)(int)())
    await asyncio.sleep(0)
    threads.shutdown(wait=False, cancel_futures=True)
    gate.set()
    assert first.result(20)
    with pytest.raises(CancelledError):
        second.result(20)
    with pytest.raises(asyncio.CancelledError):
        await third


@pytest.mark.asyncio
async def test_after_shutdown_no_function_is_accepted():
    threads = LimitedExecutor(1)
    threads.shutdown()
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)
    with pytest.raises(RuntimeError, match="shut down"):
        await on(threads)(int)()


def test_the_threads_end_with_the_last_reference():
    threads = LimitedExecutor(1)
    thread = threads.submit(threading.current_thread).result(20)
    del threads
    thread.join(20)
    assert not thread.is_alive()


def test_a_limit_is_a_positive_number():
    with pytest.raises(ValueError, match="positive"):
        LimitedExecutor(0)


@pytest.mark.asyncio
async def test_its_threads_are_reported():
    threads = LimitedExecutor(1, name="reported")
    reports = await on(threads)(report_threads)()
    assert any(report.name == "reported-1" for report in reports)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_starts_threads_anew():
    script = """
import asyncio, os, threading
from asgiref.sync import LimitedExecutor, sync_to_async
threads = LimitedExecutor(1)
gate = threading.Event()
busy = threads.submit(gate.wait)
if os.fork() == 0:
    call = sync_to_async(lambda: 42, thread_sensitive=False, executor=threads)
    os._exit(asyncio.run(call()))
status = os.wait()[1]
gate.set()
print(os.waitstatus_to_exitcode(status))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert result.stdout == "42\n", result.stderr


def test_exit_waits_for_running_functions():
    script = """
import threading
from asgiref.sync import LimitedExecutor
threads = LimitedExecutor(1)
begun, release = threading.Event(), threading.Event()
def work():
    begun.set()
    release.wait(20)
    print("done", flush=True)
threads.submit(work)
begun.wait()
threading.Timer(0.01, release.set).start()
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30
    )
    assert result.stdout == "done\n", result.stderr
