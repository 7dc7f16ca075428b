"""The thread or loop that runs each call."""

import asyncio
import contextvars
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import loops
import pytest
from probes import SOON

from asgiref.sync import (
    AsyncSingleThreadContext,
    AsyncToSync,
    LimitedExecutor,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)

current_thread = sync_to_async(threading.current_thread)
any_thread = sync_to_async(threading.current_thread, thread_sensitive=False)


class CountingExecutor:
    """An executor with nothing but `submit`."""

    def __init__(self):
        self.submitted = 0
        self._pool = ThreadPoolExecutor(1)

    def submit(self, function, /, *args, **kwargs):
        self.submitted += 1
        return self._pool.submit(function, *args, **kwargs)


def test_sensitive_calls_from_different_loops_share_one_thread():
    first = asyncio.run(current_thread())
    second = asyncio.run(current_thread())
    assert first is second
    assert first is not threading.current_thread()


def test_sensitive_calls_run_on_the_thread_that_waits():
    async def main():
        return await current_thread(), await asyncio.create_task(current_thread())

    assert async_to_sync(main)() == (threading.current_thread(),) * 2


def test_a_task_with_an_empty_context_finds_the_thread_that_waits_for_its_loop():
    async def main():
        task = asyncio.create_task(current_thread(), context=contextvars.Context())
        return await task

    assert async_to_sync(main)() is threading.current_thread()


def test_a_thread_sensitive_context_wins_over_the_loop_but_not_over_a_blocked_call():
    async def main():
        async with ThreadSensitiveContext():
            return await current_thread()

    assert async_to_sync(main)() is threading.current_thread()

    async def in_empty_context():
        return await asyncio.create_task(main(), context=contextvars.Context())

    assert async_to_sync(in_empty_context)() is not threading.current_thread()


def test_parallel_calls_run_side_by_side():
    barrier = threading.Barrier(3)

    async def main():
        wait = sync_to_async(barrier.wait, thread_sensitive=False)
        return await asyncio.gather(wait(10), wait(10), wait(10))

    assert sorted(asyncio.run(main())) == [0, 1, 2]


def test_parallel_calls_that_wait_for_coroutines_do_not_starve_each_other():
    parties = 64

    async def main():
        everybody = asyncio.Barrier(parties)

        async def meet():
            await everybody.wait()
            await any_thread()

        work = sync_to_async(async_to_sync(meet), thread_sensitive=False)
        await asyncio.gather(*(work() for _ in range(parties)))
        return True

    assert asyncio.run(main())


def test_no_more_parallel_calls_run_at_once_than_an_executor_would_allow():
    limit = ThreadPoolExecutor()._max_workers
    lock = threading.Lock()
    running = peak = 0

    def work():
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1

    async def main():
        await asyncio.gather(*(sync_to_async(work, thread_sensitive=False)() for _ in range(200)))

    asyncio.run(main())
    assert 1 <= peak <= limit


def in_another_thread(function):
    outcome = Future()
    thread = threading.Thread(target=lambda: outcome.set_result(function()))
    thread.start()
    thread.join()
    return outcome.result()


def in_this_thread(function):
    return function()


@pytest.mark.parametrize(
    ("where", "own_threads"),
    [(in_this_thread, False), (in_another_thread, False), (in_this_thread, True)],
)
def test_parallel_functions_that_run_loops_of_their_own_do_not_starve(where, own_threads):
    limit = ThreadPoolExecutor()._max_workers
    executor = LimitedExecutor(limit) if own_threads else None
    everybody = threading.Barrier(limit)
    number = sync_to_async(int, thread_sensitive=False, executor=executor)

    def work():
        everybody.wait(20)
        return where(lambda: asyncio.run(number("1")))

    async def main():
        call = sync_to_async(work, thread_sensitive=False, executor=executor)
        return await asyncio.gather(*(call() for _ in range(limit)))

    assert set(asyncio.run(main())) == {1}


def test_functions_that_block_do_not_delay_other_loops_parallel_calls():
    limit = ThreadPoolExecutor()._max_workers
    everybody, release = threading.Barrier(limit + 1), threading.Event()

    def block():
        everybody.wait(20)
        release.wait(20)

    async def occupy():
        call = sync_to_async(block, thread_sensitive=False)
        await asyncio.gather(*(call() for _ in range(limit)))

    with ThreadPoolExecutor(1) as another:
        occupied = another.submit(asyncio.run, occupy())
        everybody.wait(20)
        try:
            assert asyncio.run(any_thread()) is not None
            assert async_to_sync(any_thread)() is not None
        finally:
            release.set()
        occupied.result()


def test_abandoned_functions_do_not_delay_later_uses_of_the_loop():
    limit = ThreadPoolExecutor()._max_workers
    everybody, release = threading.Barrier(limit + 1), threading.Event()

    def block():
        everybody.wait(20)
        release.wait(20)

    async def leave_behind():
        call = sync_to_async(block, thread_sensitive=False)
        calls = [asyncio.create_task(call()) for _ in range(limit)]
        await sync_to_async(everybody.wait)(20)
        for task in calls:
            task.cancel()
        await asyncio.wait(calls)
        return asyncio.get_running_loop()

    try:
        async_to_sync(leave_behind)()
        assert async_to_sync(any_thread)() is not None
    finally:
        release.set()


@pytest.mark.skipif(loops.CHOICE == "uvloop", reason="uvloop does not show its default executor")
@pytest.mark.parametrize("prefix", ["mine", "asyncio"])
def test_the_default_executor_that_an_application_set_is_used(prefix):
    async def main():
        with ThreadPoolExecutor(1, thread_name_prefix=prefix) as executor:
            asyncio.get_running_loop().set_default_executor(executor)
            return (await any_thread()).name

    assert asyncio.run(main()).startswith(f"{prefix}_0")


def test_the_default_executor_that_asyncio_makes_is_not_used():
    """Functions that block on each other's calls would occupy all its threads."""

    async def main():
        await asyncio.to_thread(int)
        return (await any_thread()).name

    assert not asyncio.run(main()).startswith("asyncio")


def test_a_context_has_its_own_new_thread():
    async def main():
        async with ThreadSensitiveContext():
            first = await current_thread()
            assert await current_thread() is first
            async with ThreadSensitiveContext():
                assert await current_thread() is first
        shared = await current_thread()
        async with ThreadSensitiveContext():
            assert await current_thread() is not first
        return first is not shared

    assert asyncio.run(main())


def test_a_context_that_was_set_by_hand_keeps_its_thread_after_a_block_inside_it():
    async def main():
        context = ThreadSensitiveContext()
        SyncToAsync.thread_sensitive_context.set(context)
        before = await current_thread()
        async with ThreadSensitiveContext():
            inside = await current_thread()
        after = await current_thread()
        SyncToAsync.context_to_thread_executor.pop(context).shutdown()
        return before is inside is after

    assert asyncio.run(main())


def test_a_block_inside_another_keeps_its_thread_when_the_outer_one_exits():
    """A server may start a connection's next request inside the previous one."""

    async def inside(entered, other_is_left):
        async with ThreadSensitiveContext():
            thread = await current_thread()
            entered.set()
            await other_is_left.wait()
            elsewhere = contextvars.Context().run(asyncio.create_task, new_block())
            assert await elsewhere is not thread
            assert await current_thread() is thread
        return thread

    async def new_block():
        async with ThreadSensitiveContext():
            return await current_thread()

    async def main():
        entered, other_is_left = asyncio.Event(), asyncio.Event()
        async with ThreadSensitiveContext():
            thread = await current_thread()
            task = asyncio.create_task(inside(entered, other_is_left))
            await entered.wait()
        other_is_left.set()
        assert await task is thread
        assert await new_block() is not thread

    asyncio.run(main())


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize("call", [asyncio.run, lambda coroutine: async_to_sync(_await)(coroutine)])
def test_a_block_inside_a_function_on_the_shared_thread_can_outlast_the_enclosing_one(call):
    """Leaving the block must not wait for the function, which waits for the block to end."""
    entered, other_is_left = threading.Event(), threading.Event()

    async def inside():
        async with ThreadSensitiveContext():
            entered.set()
            await asyncio.to_thread(other_is_left.wait, 10)
        return threading.current_thread()

    def work():
        call(inside())
        return threading.current_thread()

    async def main():
        async with ThreadSensitiveContext():
            thread = await current_thread()
            task = asyncio.create_task(sync_to_async(work)())
            await asyncio.to_thread(entered.wait, 10)
        other_is_left.set()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done, "the inner block waits for the function that it is in"
        assert task.result() is thread
        return thread

    thread = asyncio.run(main())
    thread.join(10)
    assert not thread.is_alive()


async def _await(coroutine):
    return await coroutine


def test_a_block_entered_after_the_enclosing_one_exited_has_its_own_thread():
    async def late(go_on):
        await go_on.wait()
        async with ThreadSensitiveContext() as context:
            assert await current_thread() is await current_thread()
            assert context in SyncToAsync.context_to_thread_executor
        return context

    async def main():
        go_on = asyncio.Event()
        async with ThreadSensitiveContext():
            task = asyncio.create_task(late(go_on))
        go_on.set()
        assert await task not in SyncToAsync.context_to_thread_executor

    asyncio.run(main())


def test_concurrent_contexts_have_different_threads():
    async def request(everybody):
        async with ThreadSensitiveContext():
            thread = await current_thread()
            await everybody.wait()
            assert await current_thread() is thread
            return thread

    async def main():
        everybody = asyncio.Barrier(5)
        return await asyncio.gather(*(request(everybody) for _ in range(5)))

    assert len(set(asyncio.run(main()))) == 5


def test_a_context_waits_for_its_running_call_when_it_exits():
    started, release = threading.Event(), threading.Event()
    ended = []

    def work():
        started.set()
        release.wait(30)
        ended.append(True)

    async def main():
        async with ThreadSensitiveContext():
            task = asyncio.create_task(sync_to_async(work)())
            await asyncio.to_thread(started.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            asyncio.get_running_loop().call_soon(release.set)
        return list(ended)

    assert asyncio.run(main()) == [True]


def test_the_mapping_of_contexts_shows_and_accepts_executors():
    mapping = SyncToAsync.context_to_thread_executor

    async def main():
        async with ThreadSensitiveContext() as context:
            assert context not in mapping
            thread = await current_thread()
            assert await asyncio.wrap_future(mapping[context].submit(threading.get_ident))
            assert mapping.pop(context).submit(threading.current_thread).result() is thread
            mapping[context] = executor = CountingExecutor()
            await current_thread()
            assert executor.submitted == 1
            del mapping[context]
            assert context not in mapping
        assert SyncToAsync.thread_sensitive_context.get(None) is None

    asyncio.run(main())


def test_the_shared_executor_can_be_replaced(monkeypatch):
    executor = CountingExecutor()
    monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
    assert asyncio.run(sync_to_async(int)("5")) == 5
    assert executor.submitted == 1


def test_the_shared_executor_runs_submitted_functions():
    future: Future[threading.Thread] = SyncToAsync.single_thread_executor.submit(
        threading.current_thread
    )
    assert future.result(30) is asyncio.run(current_thread())


def test_the_current_executor_can_be_assigned():
    executor = CountingExecutor()

    async def main():
        AsyncToSync.executors.current = executor
        await current_thread()
        AsyncToSync.executors.current = None
        return await current_thread()

    assert asyncio.run(main()) is asyncio.run(current_thread())
    assert executor.submitted == 1


def test_a_call_that_its_executor_dropped_is_cancelled():
    blocked, release = threading.Event(), threading.Event()

    def block():
        blocked.set()
        release.wait(30)

    async def main():
        executor = ThreadPoolExecutor(1)
        executor.submit(block)
        blocked.wait(30)
        call = sync_to_async(int, thread_sensitive=False, executor=executor)
        task = asyncio.create_task(call("1"))
        await asyncio.sleep(0)
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()

    asyncio.run(main())
    assert release.is_set()


def test_a_coroutine_called_from_async_code_runs_on_its_loop():
    async def main():
        loop = asyncio.get_running_loop()

        async def running_loop():
            return asyncio.get_running_loop()

        return await sync_to_async(async_to_sync(running_loop))() is loop

    assert asyncio.run(main())


def test_force_new_loop_uses_another_loop_and_the_same_thread_for_sync_code():
    async def main():
        loop = asyncio.get_running_loop()

        async def inner():
            return asyncio.get_running_loop() is loop, await current_thread()

        def work():
            return async_to_sync(inner, force_new_loop=True)(), threading.current_thread()

        return await sync_to_async(work)()

    (same_loop, inner_thread), outer_thread = asyncio.run(main())
    assert not same_loop
    assert inner_thread is outer_thread


def test_the_calling_loop_is_restored_after_a_forced_loop():
    async def main():
        async def running_loop():
            return asyncio.get_running_loop()

        def work():
            async_to_sync(running_loop, force_new_loop=True)()
            return async_to_sync(running_loop)()

        return await sync_to_async(work)() is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_a_loop_that_was_left_clean_is_reused():
    async def running_loop():
        return id(asyncio.get_running_loop()), threading.get_ident()

    assert async_to_sync(running_loop)() == async_to_sync(running_loop)()


@pytest.mark.parametrize("trace", ["task", "timer", "generator", "executor", "handler", "reader"])
def test_a_loop_that_shows_a_trace_of_use_is_closed(trace):
    kept = []

    async def leave_something():
        loop = asyncio.get_running_loop()
        kept.append(loop)
        if trace == "task":
            kept.append(asyncio.create_task(asyncio.Event().wait()))
        elif trace == "timer":
            loop.call_later(1000, print)
        elif trace == "generator":
            kept.append(forever())
            await anext(kept[1])
        elif trace == "executor":
            await asyncio.to_thread(int)
        elif trace == "handler":
            loop.set_exception_handler(lambda loop, context: None)
        else:
            import socket

            kept.extend(socket.socketpair())
            loop.add_reader(kept[1], print)

    async def forever():
        while True:
            yield 1

    async def running_loop():
        return asyncio.get_running_loop()

    async_to_sync(leave_something)()
    assert kept[0].is_closed()
    assert async_to_sync(running_loop)() is not kept[0]
    for resource in kept[1:]:
        if hasattr(resource, "close"):
            resource.close()


def test_tasks_left_over_are_cancelled_and_their_sync_code_runs_on_the_waiting_thread():
    ended = []

    async def linger():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(await current_thread())

    async def main():
        main.task = asyncio.create_task(linger())
        await asyncio.sleep(0)

    async_to_sync(main)()
    assert ended == [threading.current_thread()]
    assert main.task.cancelled()


def test_a_task_that_outlives_its_blocked_call_may_still_call_sync_code():
    async def main(context):
        go_on = asyncio.Event()

        async def late():
            await go_on.wait()
            return await current_thread()

        async def view():
            return asyncio.create_task(late())

        async with context:
            task = await sync_to_async(async_to_sync(view))()
        go_on.set()
        return await task

    class NoContext:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc_info):
            return None

    assert asyncio.run(main(ThreadSensitiveContext())).is_alive()
    assert asyncio.run(main(NoContext())) is asyncio.run(current_thread())


def test_a_blocked_thread_serves_its_outer_call_too():
    async def main():
        done = asyncio.Event()

        async def wait_for_sibling():
            await done.wait()

        async def sibling(started):
            await started.wait()
            await sync_to_async(int)()
            done.set()

        started = asyncio.Event()

        async def announce():
            started.set()
            await wait_for_sibling()

        await asyncio.gather(sync_to_async(async_to_sync(announce))(), sibling(started))
        return done.is_set()

    assert async_to_sync(main)()


def test_asyncio_run_in_bridged_sync_code_can_bridge_again():
    async def innermost():
        return await current_thread()

    def run_a_loop_here():
        return asyncio.run(innermost()), threading.current_thread()

    async def main():
        return await sync_to_async(run_a_loop_here)()

    innermost_thread, thread = async_to_sync(main)()
    assert thread is threading.current_thread()
    assert innermost_thread is not thread


@pytest.mark.parametrize("in_context", [False, True])
def test_a_loop_on_the_thread_that_it_needs_is_an_error(in_context):
    def run_a_loop_here():
        return asyncio.run(sync_to_async(int)())

    async def main():
        if in_context:
            async with ThreadSensitiveContext():
                await sync_to_async(run_a_loop_here)()
        else:
            await sync_to_async(run_a_loop_here)()

    with pytest.raises(RuntimeError, match=r"builtins\.int would deadlock"):
        asyncio.run(main())


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize("where", ["the class", "a subclass"])
def test_a_loop_on_the_one_thread_of_an_applications_executor_is_an_error(monkeypatch, where):
    class Own(SyncToAsync):
        pass

    async def inner():
        return await Own(int)()

    async def main():
        return await Own(lambda: asyncio.run(inner()))()

    with ThreadPoolExecutor(1) as executor:
        changed = Own if where == "a subclass" else SyncToAsync
        monkeypatch.setattr(changed, "single_thread_executor", executor)
        with pytest.raises(RuntimeError, match=r"builtins\.int would deadlock"):
            asyncio.run(asyncio.wait_for(main(), SOON))


def test_a_chain_that_says_it_occupies_the_shared_thread_is_refused():
    async def main():
        SyncToAsync.deadlock_context.set(True)
        await current_thread()

    with pytest.raises(RuntimeError, match="would deadlock"):
        asyncio.run(main())


def test_a_stopped_loop_is_replaced_by_another():
    holder = {}
    go_on, called = threading.Event(), threading.Event()

    async def inner():
        return 42

    def outlive_the_loop():
        called.set()
        go_on.wait(30)
        holder["value"] = async_to_sync(inner)()

    loop = asyncio.new_event_loop()
    task = loop.create_task(sync_to_async(outlive_the_loop, thread_sensitive=False)())
    loop.call_soon(loop.stop)
    loop.run_forever()
    called.wait(30)
    go_on.set()
    deadline = threading.Event()
    while "value" not in holder and not deadline.wait(0.001):
        pass
    assert holder["value"] == 42
    loop.run_until_complete(task)
    loop.close()


def test_a_single_thread_context_keeps_one_thread_and_one_running_loop():
    async def start():
        start.queue = asyncio.Queue()
        start.task = asyncio.create_task(start.queue.get())
        return asyncio.get_running_loop(), threading.current_thread()

    async def finish():
        start.queue.put_nowait("kept")
        return await start.task, asyncio.get_running_loop(), threading.current_thread()

    with AsyncSingleThreadContext():
        loop, thread = async_to_sync(start)()
        assert async_to_sync(finish)() == ("kept", loop, thread)
    assert loop.is_closed()


def test_a_single_thread_context_ends_its_tasks_and_runs_their_sync_code():
    ended = []

    async def linger():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(await current_thread())

    async def start():
        start.task = asyncio.create_task(linger())
        await asyncio.sleep(0)

    with AsyncSingleThreadContext():
        async_to_sync(start)()
        assert ended == []
    assert ended == [threading.current_thread()]


def test_a_single_thread_context_object_can_be_nested_and_used_again():
    async def running_loop():
        return asyncio.get_running_loop()

    context = AsyncSingleThreadContext()
    with context:
        outer = async_to_sync(running_loop)()
        with context:
            assert async_to_sync(running_loop)() is outer
        assert async_to_sync(running_loop)() is outer
    with context:
        assert async_to_sync(running_loop)() is not outer


def test_force_new_loop_works_inside_a_single_thread_context():
    async def running_loop():
        return asyncio.get_running_loop()

    async def outer():
        inner = sync_to_async(async_to_sync(running_loop, force_new_loop=True))
        return await inner(), asyncio.get_running_loop()

    with AsyncSingleThreadContext():
        inner_loop, outer_loop = async_to_sync(outer)()
    assert inner_loop is not outer_loop
