"""Loops, contexts, iterators and tasks that end at a bad moment leave nothing behind."""

import asyncio
import contextlib
import contextvars
import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from probes import (
    SOON,
    Resources,
    assert_all_works,
    assert_no_more_than,
    double,
    eventually,
    outcome,
)

from asgiref.sync import (
    AsyncSingleThreadContext,
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    async_to_sync_iterator,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(30, method="thread")


def in_thread(function, *args):
    results = []
    thread = threading.Thread(target=lambda: results.append(outcome(function, *args)), daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive(), "hangs"
    return results[0]


@pytest.fixture
def nothing_left(request):
    """Assert that all calls work afterwards, and that the process holds no additional resources.

    Its parameter is the number of additional idle threads and loops that are allowed.
    """
    for _ in range(2):
        assert_all_works()
    before = Resources.now()
    yield
    assert_all_works()
    assert_no_more_than(before, spare=getattr(request, "param", 2))


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("sensitive", [True, False])
def test_a_result_for_a_closing_loop_is_not_written_to_another_descriptor(sensitive):
    died, hook = [], threading.excepthook
    threading.excepthook = died.append
    stray = []

    def once(number):
        release = threading.Event()

        async def main():
            work = sync_to_async(release.wait, thread_sensitive=sensitive)
            task = asyncio.ensure_future(work(SOON))
            await asyncio.sleep(0)
            await asyncio.sleep(0.0002)
            task.cancel()
            await asyncio.wait([task])

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        release.set()
        for _ in range(number % 60):
            pass
        loop.close()
        del loop
        pipes = [os.pipe() for _ in range(4)]  # they reuse the descriptors that were just closed
        time.sleep(0)
        for reading, writing in pipes:
            os.set_blocking(reading, False)
            with contextlib.suppress(BlockingIOError):
                stray.append(os.read(reading, 100))
            os.close(reading)
            os.close(writing)

    try:
        deadline = time.monotonic() + 1.5
        number = 0
        while time.monotonic() < deadline and not stray:
            once(number)
            number += 1
    finally:
        threading.excepthook = hook
    assert (stray, died) == ([], [])


# On a loaded machine, the threads of one round are not idle yet when the next round needs five.
@pytest.mark.parametrize("nothing_left", [10], indirect=True, ids=lambda spare: f"{spare} spare")
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("sensitive", [True, False])
def test_many_results_for_a_closing_loop_are_harmless(sensitive):
    for _ in range(30):
        barrier = threading.Event()

        async def main(barrier=barrier):
            call = sync_to_async(barrier.wait, thread_sensitive=sensitive)
            tasks = [asyncio.ensure_future(call(SOON)) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.to_thread(barrier.set)
            return tasks  # the loop stops here, with queued callbacks

        with pytest.raises(TimeoutError):
            asyncio.run(_give_up(main))


async def _give_up(main):
    await main()
    raise TimeoutError


def test_closing_a_loop_under_a_waiting_thread_raises_an_error_in_that_thread():
    outcomes = []

    async def for_ever(started):
        started.set()
        await asyncio.Event().wait()

    def work(started):
        outcomes.append(outcome(async_to_sync(for_ever), started))

    loop = asyncio.new_event_loop()

    async def main():
        started = threading.Event()
        task = asyncio.ensure_future(sync_to_async(work, thread_sensitive=False)(started))
        await asyncio.to_thread(started.wait, SOON)
        return [task]

    loop.set_exception_handler(lambda loop, context: None)  # pending tasks are destroyed
    tasks = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert eventually(lambda: outcomes)
    assert isinstance(outcomes[0], (RuntimeError, asyncio.CancelledError))
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, loop
    gc.collect()
    assert_all_works()


@pytest.mark.parametrize("cancellations", [1, 2, 3, "repeated"])
@pytest.mark.parametrize("bridged", [False, True])
def test_the_thread_of_a_context_that_exits_while_cancelled_ends(cancellations, bridged):
    threads = []

    async def wait_in_thread(started, release):
        await sync_to_async(started.set)()
        await asyncio.shield(asyncio.to_thread(release.wait, SOON))

    def work(started, release):
        threads.append(threading.current_thread())
        if bridged:
            async_to_sync(wait_in_thread)(started, release)
        else:
            started.set()
            release.wait(SOON)

    async def request(started, release):
        async with ThreadSensitiveContext():
            await sync_to_async(work)(started, release)

    async def main():
        release = threading.Event()
        starts = [threading.Event() for _ in range(3)]
        tasks = [asyncio.create_task(request(started, release)) for started in starts]
        for started in starts:
            await asyncio.to_thread(started.wait, SOON)
        for _ in range(30 if cancellations == "repeated" else cancellations):
            for task in tasks:
                task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
        release.set()
        done, pending = await asyncio.wait(tasks, timeout=SOON)
        assert not pending
        assert all(task.cancelled() for task in done)
        assert await asyncio.to_thread(
            eventually, lambda: not any(thread.is_alive() for thread in threads), 5
        )

    asyncio.run(main())
    assert len(set(threads)) == 3
    assert_all_works()


@pytest.mark.parametrize("where", ["another task", "another thread"])
def test_exiting_a_context_elsewhere_is_an_error_and_its_thread_ends(where):
    context = ThreadSensitiveContext()

    async def enter():
        await context.__aenter__()
        return await sync_to_async(threading.current_thread)()

    async def leave():
        await context.__aexit__(None, None, None)

    async def leave_there():
        if where == "another task":
            await asyncio.create_task(leave())
        else:
            await asyncio.to_thread(asyncio.run, leave())

    async def main():
        thread = await asyncio.create_task(enter())
        with pytest.raises(ValueError, match="different Context"):
            await leave_there()
        assert context not in SyncToAsync.context_to_thread_executor
        return thread

    thread = asyncio.run(asyncio.wait_for(main(), SOON))
    thread.join(SOON)
    assert not thread.is_alive()


def test_exiting_a_context_in_a_function_on_its_own_thread_is_an_error():
    """The end of the block must not wait for the function, because the function waits for it."""

    async def main():
        context = await ThreadSensitiveContext().__aenter__()
        leave = async_to_sync(context.__aexit__)
        return await sync_to_async(outcome)(leave, None, None, None)

    assert isinstance(asyncio.run(asyncio.wait_for(main(), SOON)), ValueError)


def test_a_context_with_an_executor_accepts_no_calls_after_it_was_exited_elsewhere():
    async def outlast(context, go_on):
        await context.__aenter__()
        await sync_to_async(int)()
        go_on.set()
        await left.wait()
        with pytest.raises(RuntimeError, match="has exited"):
            await sync_to_async(int)()

    async def leave(context):
        await context.__aexit__(None, None, None)

    async def main():
        nonlocal left
        left, entered = asyncio.Event(), asyncio.Event()
        with ThreadPoolExecutor(1) as executor:
            context = ThreadSensitiveContext(executor=executor)
            task = asyncio.create_task(outlast(context, entered))
            await entered.wait()
            with pytest.raises(ValueError, match="different Context"):
                await asyncio.create_task(leave(context))
            left.set()
            await task
        assert context not in SyncToAsync.context_to_thread_executor

    left = None
    asyncio.run(asyncio.wait_for(main(), SOON))


@pytest.mark.usefixtures("nothing_left")
def test_contexts_that_exit_while_cancelled_leave_no_threads_behind():
    async def request(release, started):
        async with ThreadSensitiveContext():
            await sync_to_async(lambda: (started.set(), release.wait(SOON)))()

    async def main():
        for _ in range(20):
            release, started = threading.Event(), threading.Event()
            task = asyncio.create_task(request(release, started))
            await asyncio.to_thread(started.wait, SOON)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            release.set()
            await asyncio.wait([task])

    asyncio.run(main())


@pytest.mark.parametrize("where", ["another context", "another thread"])
def test_a_single_thread_context_can_be_exited_elsewhere(where):
    for _ in range(3):
        assert_all_works()
    before = Resources.now()
    for _ in range(10):
        block = AsyncSingleThreadContext()
        contextvars.copy_context().run(block.__enter__)

        def use(block=block):
            with block:
                return async_to_sync(double)(2)

        assert contextvars.copy_context().run(use) == 4
        leave = (block.__exit__, None, None, None)
        if where == "another thread":
            left = in_thread(*leave)
        else:
            left = outcome(contextvars.copy_context().run, *leave)
        # The token of another context, or a used token: asgiref raises these errors too.
        assert left is None or isinstance(left, (ValueError, RuntimeError))
        del block, use, leave
    assert_all_works()
    assert_no_more_than(before, spare=2)


def test_an_exited_single_thread_context_can_still_be_current_somewhere():
    for _ in range(3):
        assert_all_works()
    before = Resources.now()
    for _ in range(10):
        with AsyncSingleThreadContext():
            assert async_to_sync(double)(2) == 4
            outliving = contextvars.copy_context()
        assert outliving.run(async_to_sync(double), 3) == 6
        assert outliving.run(in_thread, async_to_sync(double), 3) == 6
        del outliving
    assert_all_works()
    assert_no_more_than(before, spare=2)


def test_a_single_thread_context_that_is_never_exited_ends_with_its_last_reference():
    for _ in range(3):
        assert_all_works()
    before = Resources.now()

    def enter_and_forget():
        AsyncSingleThreadContext().__enter__()
        assert async_to_sync(double)(2) == 4

    for _ in range(10):
        contextvars.copy_context().run(enter_and_forget)
        assert_no_more_than(before, spare=2)
    assert_all_works()


def test_several_threads_share_a_single_thread_context():
    with AsyncSingleThreadContext():
        contexts = [contextvars.copy_context() for _ in range(8)]

        async def where():
            await asyncio.sleep(0)
            return threading.get_ident()

        results = []
        threads = [
            threading.Thread(target=lambda one=one: results.append(one.run(async_to_sync(where))))
            for one in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert len(results) == 8
        assert len(set(results)) == 1
    assert_all_works()


def test_two_threads_can_be_in_blocks_of_one_single_thread_context():
    block, both = AsyncSingleThreadContext(), threading.Barrier(2)
    active = AsyncToSync.async_single_thread_context

    async def running_loop():
        return asyncio.get_running_loop()

    def enter_and_leave_first():
        with block:
            loop = async_to_sync(running_loop)()
            both.wait(SOON)
            both.wait(SOON)  # the other has entered
        is_active = active.get(None) is not None
        both.wait(SOON)
        both.wait(SOON)  # the other has left
        return loop, is_active, async_to_sync(running_loop)()

    def enter_and_leave_last():
        both.wait(SOON)
        with block:
            both.wait(SOON)
            both.wait(SOON)  # the other has left
            loop = async_to_sync(running_loop)()
        is_active = active.get(None) is not None
        both.wait(SOON)
        return loop, is_active

    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(enter_and_leave_first)
        last = executor.submit(enter_and_leave_last)
        loop, first_is_active, later_loop = first.result(SOON)
        assert last.result(SOON) == (loop, False)
    assert not first_is_active
    assert later_loop is not loop
    assert loop.is_closed()
    assert block not in AsyncToSync.context_to_thread_executor


async def numbers(closed=None):
    try:
        for number in range(10):
            yield number
            await asyncio.sleep(0)
    finally:
        if closed is not None:
            closed.append(threading.get_ident())


@pytest.mark.parametrize("where", ["here", "another context", "another thread", "forgotten there"])
def test_a_half_consumed_iterator_is_closed_wherever_it_is_abandoned(where):
    for _ in range(3):
        assert_all_works()
        list(async_to_sync_iterator(numbers()))
    before = Resources.now()
    closed = []
    for _ in range(5):
        iterator = async_to_sync_iterator(numbers(closed))
        assert next(iterator) == 0
        if where == "here":
            iterator.close()
        elif where == "another context":
            contextvars.copy_context().run(iterator.close)
        elif where == "another thread":
            assert in_thread(next, iterator) == 1
            assert in_thread(iterator.close) is None
        else:
            holder = [iterator]
            del iterator
            in_thread(holder.clear)
    assert eventually(lambda: len(closed) == 5)
    assert_all_works()
    assert_no_more_than(before, spare=2)


def test_done_callbacks_of_the_calls_own_task_run_before_the_call_returns():
    released = []

    async def uses_a_resource():
        task = asyncio.current_task()
        task.add_done_callback(lambda _: (time.sleep(0.01), released.append(task.done())))
        await asyncio.sleep(0)

    for number in range(5):
        async_to_sync(uses_a_resource)()
        assert released == [True] * (number + 1)


def test_a_task_started_by_a_done_callback_has_ended_when_the_call_returns():
    tasks, ended = [], []

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def bridge():
        await sync_to_async(int)()
        await sync_to_async(int, thread_sensitive=False)()

    async def leaves(what):
        asyncio.current_task().add_done_callback(
            lambda _: tasks.append(asyncio.ensure_future(what()))
        )
        await asyncio.sleep(0)

    for what in (background, bridge):
        async_to_sync(leaves)(what)
        assert tasks[-1].done()
        assert tasks[-1].get_loop().is_closed() or len(asyncio.all_tasks(tasks[-1].get_loop())) == 0
    assert ended in ([], [1])  # cancelled before its first step, or after
    assert_all_works()


def test_a_done_callback_may_call_the_bridge():
    seen = []

    async def main():
        asyncio.current_task().add_done_callback(
            lambda _: seen.append(outcome(async_to_sync(double), 2))
        )

    async_to_sync(main)()
    asyncio.run(sync_to_async(async_to_sync(main))())
    assert [type(one) for one in seen] == [RuntimeError, RuntimeError]
    assert all("same thread as an async event loop" in str(one) for one in seen)
    assert_all_works()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
@pytest.mark.parametrize("when", ["cancelled", "at once"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_leftover_task_may_raise_anything(error, when):
    async def leftover():
        try:
            if when == "cancelled":
                await asyncio.Event().wait()
        finally:
            raise error("leftover")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        tasks = [asyncio.ensure_future(leftover()), asyncio.ensure_future(asyncio.sleep(60))]
        if when == "cancelled":
            await asyncio.sleep(0)
        return len(tasks)

    for _ in range(2):
        assert_all_works()
    before = Resources.now()
    listed = len(AsyncToSync.loop_thread_executors)
    for _ in range(5):
        result = outcome(async_to_sync(main))
        assert result == 2 or type(result) in (error, RuntimeError)
        assert async_to_sync(double)(2) == 4
        del result
    assert len(AsyncToSync.loop_thread_executors) == listed
    assert_all_works()
    assert_no_more_than(before, spare=2)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("what", ["stop", "default executor", "async generator", "stubborn task"])
def test_a_coroutine_may_leave_its_loop_in_any_state(what):
    log, left = [], []

    async def stubborn():
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
        log.append("ends")

    async def main():
        loop = asyncio.get_running_loop()
        if what == "stop":
            loop.stop()
            await asyncio.sleep(0)
        elif what == "default executor":
            loop.run_in_executor(None, log.append, "ran")
        elif what == "async generator":
            left.append(numbers(log))
            await anext(left[0])
        else:
            left.append(asyncio.create_task(stubborn()))
            await asyncio.sleep(0)
        return 1

    for _ in range(5):
        result = outcome(async_to_sync(main))
        assert result == 1 or (what == "stop" and isinstance(result, RuntimeError))
        left.clear()
    assert len(log) == (0 if what == "stop" else 5)
