"""A loop runs all queued work, however its thread is waiting."""

import asyncio
import contextvars
import gc
import itertools
import os
import selectors
import socket
import subprocess
import sys
import threading
import weakref

import loops
import pytest
from probes import eventually

from asgiref.sync import AsyncSingleThreadContext, async_to_sync, sync_to_async

linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def comes_back_to(before):
    """Whether no additional descriptors are open once the threads of the last calls finish."""
    return eventually(lambda: descriptors() <= before)


async def number(value):
    return await sync_to_async(int)(value)


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_another_thread_can_wake_a_coroutine_that_waits():
    async def main():
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        in_thread(lambda: loop.call_soon_threadsafe(woken.set))
        await woken.wait()
        return "woken"

    assert async_to_sync(main)() == "woken"


def test_a_coroutine_can_run_while_another_waits():
    async def main():
        loop, released = asyncio.get_running_loop(), asyncio.Event()

        async def release():
            released.set()
            return "released"

        outside = sync_to_async(
            lambda: asyncio.run_coroutine_threadsafe(release(), loop).result(20),
            thread_sensitive=False,
        )
        task = asyncio.create_task(outside())
        await released.wait()
        return await task

    assert async_to_sync(main)() == "released"


def test_a_callback_scheduled_after_a_call_is_run_or_refused_at_once():
    async def running_loop():
        return asyncio.get_running_loop()

    loop = async_to_sync(running_loop)()
    coroutine = number("1")
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        coroutine.close()
    else:
        assert future.result(20) == 1
    assert async_to_sync(number)("2") == 2


def test_timers_work_alongside_calls_to_sync_code():
    async def main():
        fired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.001, fired.set)
        before = await number("1")
        await fired.wait()
        return before + await number("2")

    for _ in range(3):
        assert async_to_sync(main)() == 3


def test_sockets_work_alongside_calls_to_sync_code():
    async def main():
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            received = asyncio.create_task(loop.sock_recv(near, 10))
            await asyncio.sleep(0)
            await sync_to_async(far.send)(b"hello")
            return await received

    for _ in range(3):
        assert async_to_sync(main)() == b"hello"


def test_a_task_that_is_always_ready_does_not_delay_other_tasks_results():
    async def main():
        async def spin():
            for _ in itertools.count():
                await asyncio.sleep(0)

        spinning = asyncio.create_task(spin())
        values = [await number(str(value)) for value in range(20)]
        parallel = await asyncio.gather(
            *(sync_to_async(int, thread_sensitive=False)(value) for value in range(20))
        )
        spinning.cancel()
        return values == parallel == list(range(20))

    assert async_to_sync(main)()
    assert asyncio.run(main())


def test_calls_on_one_loop_thread_run_in_order_despite_leftover_work():
    tasks = []

    async def leave(what):
        loop = asyncio.get_running_loop()
        if what == "task":
            tasks.append(asyncio.create_task(asyncio.Event().wait()))
        elif what == "timer":
            loop.call_later(60, print)
        elif what == "callback":
            loop.call_soon(int)
        elif what == "cancelled timer":
            loop.call_later(60, print).cancel()
        return await number("1")

    for what in ("task", "timer", "callback", "cancelled timer", "nothing") * 4:
        assert async_to_sync(leave)(what) == 1
    assert all(task.cancelled() for task in tasks)


def test_a_block_with_one_loop_serves_its_clients_between_the_calls():
    async def start():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        return server, server.sockets[0].getsockname()

    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def stop(server):
        server.close()

    with AsyncSingleThreadContext():
        assert async_to_sync(number)("1") == 1
        server, address = async_to_sync(start)()
        for _ in range(3):
            with socket.create_connection(address, timeout=20) as client:
                client.sendall(b"hello\n")
                assert client.recv(10) == b"hello\n"
            assert async_to_sync(number)("2") == 2
        async_to_sync(stop)(server)
        assert async_to_sync(number)("3") == 3


def test_many_threads_use_loops_and_wake_them_at_once():
    async def busy(value):
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.create_task(
            sync_to_async(loop.call_soon_threadsafe, thread_sensitive=False)(woken.set)
        )
        if value % 3 == 0:
            await asyncio.sleep(0)
        if value % 7 == 0:
            await asyncio.sleep(0.0001)
        result = await number(value)
        await woken.wait()
        await task
        return result

    def work(results):
        results.extend(async_to_sync(busy)(value) for value in range(40))

    collected = [[] for _ in range(8)]
    threads = [in_thread(lambda results=results: work(results)) for results in collected]
    for thread in threads:
        thread.join(40)
    assert collected == [list(range(40))] * 8


@linux
def test_closed_loops_leave_no_descriptors():
    asyncio.run(number("1"))
    before = descriptors()
    for _ in range(5):
        asyncio.run(number("1"))
    assert comes_back_to(before)


@linux
def test_loops_that_take_turns_on_a_thread_open_no_more_descriptors():
    loops = [asyncio.new_event_loop() for _ in range(2)]
    for loop in loops:
        loop.run_until_complete(number("1"))
    before = descriptors()
    for _ in range(5):
        for loop in loops:
            assert loop.run_until_complete(number("1")) == 1
    assert comes_back_to(before)
    for loop in loops:
        loop.close()


def test_a_loop_keeps_nothing_from_the_first_callers_context():
    variable = contextvars.ContextVar("variable")

    class Value:
        pass

    async def with_a_value():
        value = Value()
        variable.set(value)
        await number("1")
        return weakref.ref(value)

    async def main():
        reference = await asyncio.create_task(with_a_value())
        await number("2")
        return reference()

    assert asyncio.run(main()) is None


def test_results_for_a_closed_loop_are_harmless():
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait(20)
        ended.set()

    async def main():
        task = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
        await asyncio.to_thread(started.wait, 20)
        task.cancel()

    asyncio.run(main())
    release.set()
    assert ended.wait(20)
    assert asyncio.run(number("1")) == 1


def test_a_loop_in_debug_mode_does_not_complain_about_the_bridge(caplog):
    async def main():
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.05
        await number("1")
        timer = threading.Timer(0.1, lambda: loop.call_soon_threadsafe(done.set))
        timer.start()
        await done.wait()
        return "done"

    assert async_to_sync(main)() == "done"
    # On a busy machine any step may be slow, except the callback that would wait.
    complaints = [record.getMessage() for record in caplog.records]
    assert [text for text in complaints if "_wait()" in text] == []


@linux
def test_calls_work_when_no_descriptor_is_left():
    check = """
import asyncio, os, resource
from asgiref.sync import sync_to_async

async def main():
    held = [os.dup(0) for _ in range(soft - len(os.listdir("/proc/self/fd")) + 1)]
    value = await sync_to_async(int)("1")
    for descriptor in held:
        os.close(descriptor)
    return value

soft = 64
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
print(asyncio.run(main()))
"""
    command = [sys.executable, "-W", "error", "-c", check]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.stdout, result.stderr) == ("1\n", "")


def test_loops_that_wait_in_a_different_way_are_woken_too():
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        assert loop.run_until_complete(number("1")) == 1
    finally:
        loop.close()


def test_a_loop_that_runs_again_does_not_start_a_call_that_moved_to_another():
    loop = asyncio.new_event_loop()
    started, release, began = threading.Event(), threading.Event(), threading.Event()
    loops = []

    async def where():
        loops.append(asyncio.get_running_loop())
        began.set()

    def work():
        started.set()
        release.wait(20)
        # It stops just after the bridge's check.
        answers = iter([True])
        loop.is_running = lambda: next(answers, False)
        async_to_sync(where)()
        del loop.is_running

    async def begin():
        task = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
        await asyncio.to_thread(started.wait, 20)
        return [task]  # not awaited: the loop stops here

    (task,) = loop.run_until_complete(begin())
    release.set()
    assert began.wait(20)
    loop.run_until_complete(task)
    loop.close()
    assert len(loops) == 1
    assert loops != [loop]


def test_a_leftover_task_sees_its_function_end():
    begun, events = threading.Event(), []

    async def wait_below():
        begun.set()
        await asyncio.Event().wait()

    def work():
        try:
            async_to_sync(wait_below)()
        finally:
            events.append("function")

    async def leave_over():
        try:
            await sync_to_async(work, thread_sensitive=False)()
        finally:
            events.append("task")

    async def main():
        tasks.append(asyncio.create_task(leave_over()))
        await asyncio.to_thread(begun.wait, 20)

    tasks = []
    async_to_sync(main)()
    assert events == ["function", "task"]
    assert tasks[0].cancelled()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_results_are_not_lost_when_a_task_ends_the_loop(error):
    both = threading.Barrier(3)
    meet = sync_to_async(both.wait, thread_sensitive=False)
    loop = asyncio.new_event_loop()

    async def ending():
        await meet()
        raise error

    async def other():
        return await meet() in range(3)

    async def hold_the_loop():
        while both.n_waiting < 2:  # noqa: ASYNC110 (a barrier has no event)
            await asyncio.sleep(0)
        both.wait(20)
        await asyncio.Event().wait()

    tasks = [loop.create_task(one()) for one in (ending, other, hold_the_loop)]
    with pytest.raises(error):
        loop.run_until_complete(asyncio.wait(tasks))
    assert loop.run_until_complete(asyncio.wait_for(tasks[1], 20))
    tasks[2].cancel()
    loop.run_until_complete(asyncio.wait(tasks[2:]))
    loop.close()
    with pytest.raises(error):
        tasks[0].result()


@pytest.mark.skipif(loops.CHOICE == "uvloop", reason="uvloop has no selector")
def test_an_interrupt_between_the_selector_and_the_loop_loses_nothing():
    loop = asyncio.new_event_loop()
    select = loop._selector.select
    interrupts = iter([KeyboardInterrupt])

    def interrupted_select(timeout=None):
        events = select(timeout)
        for interrupt in interrupts if events else ():
            raise interrupt
        return events

    loop.run_until_complete(number("0"))
    loop._selector.select = interrupted_select
    task = loop.create_task(number("1"))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert loop.run_until_complete(asyncio.wait_for(task, 20)) == 1
    assert loop.run_until_complete(asyncio.wait_for(number("2"), 20)) == 2
    loop.close()


@pytest.mark.skipif(loops.CHOICE == "uvloop", reason="uvloop cannot run one turn at a time")
def test_a_loop_can_be_run_inside_its_own_callbacks():
    """nest_asyncio makes this possible: it leaves the running task for the inner run."""
    loop = asyncio.new_event_loop()

    def run_inside(coroutine):
        current = asyncio.current_task()
        asyncio.tasks._leave_task(loop, current)
        try:
            future = asyncio.ensure_future(coroutine)
            while not future.done():
                loop._run_once()
        finally:
            asyncio.tasks._enter_task(loop, current)
        return future.result()

    async def main():
        await number("1")
        return run_inside(number("5"))

    assert loop.run_until_complete(main()) == 5
    loop.close()


def test_a_coroutine_that_stops_its_loop_ends_only_that_loop():
    async def stop():
        asyncio.get_running_loop().stop()

    async def meet(both):
        await sync_to_async(both.wait, thread_sensitive=False)(20)
        return asyncio.get_running_loop()

    async_to_sync(stop)()
    both, loops = threading.Barrier(2), []
    threads = [in_thread(lambda: loops.append(async_to_sync(meet)(both))) for _ in range(2)]
    for thread in threads:
        thread.join(20)
    assert len(set(map(id, loops))) == 2


@linux
def test_a_loop_that_runs_in_many_threads_opens_no_more_descriptors():
    loop = asyncio.new_event_loop()

    def run():
        loop.run_until_complete(number("1"))

    run()
    before = descriptors()
    for _ in range(5):
        in_thread(run).join(20)
    assert comes_back_to(before)
    loop.close()


@pytest.mark.parametrize("loop_class", [asyncio.SelectorEventLoop, "a subclass"])
def test_calls_that_end_after_their_loop_keep_nothing_alive(loop_class):
    class Subclass(asyncio.SelectorEventLoop):
        pass

    class Argument:
        pass

    release, begun = threading.Event(), threading.Barrier(4)
    watched = []

    def work(argument):
        begun.wait(20)
        release.wait(20)

    def use():
        loop = Subclass() if loop_class == "a subclass" else loop_class()
        arguments = [Argument() for _ in range(3)]
        watched.extend(map(weakref.ref, [loop, *arguments]))
        call = sync_to_async(work, thread_sensitive=False)

        async def main():
            tasks = [asyncio.create_task(call(argument)) for argument in arguments]
            await asyncio.to_thread(begun.wait, 20)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def nothing_is_kept():
        gc.collect()
        return not any(reference() is not None for reference in watched)

    use()
    release.set()
    asyncio.run(number("1"))
    assert eventually(nothing_is_kept)


def test_a_cancellation_before_the_loop_is_made_is_not_lost(monkeypatch):
    making, cancelled = threading.Event(), threading.Event()
    make = asyncio.new_event_loop

    def slow_make():
        making.set()
        cancelled.wait(20)
        return make()

    async def inner():
        await asyncio.Event().wait()

    def work():
        async_to_sync(inner, force_new_loop=True)()

    async def main():
        monkeypatch.setattr(asyncio, "new_event_loop", slow_make)
        monkeypatch.setattr(asyncio.events, "new_event_loop", slow_make)
        task = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
        await asyncio.to_thread(eventually, making.is_set, 1)  # never set if a loop is reused
        task.cancel()
        asyncio.get_running_loop().call_later(0.001, cancelled.set)
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_a_slow_step_after_a_call_is_reported_with_its_task_in_debug_mode(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0  # everything is slow
        return await number("1")

    assert asyncio.run(main()) == 1
    slow = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert any("<Task" in text and "main()" in text for text in slow)
