"""Context managers across the bridge, in both directions."""

import asyncio
import contextlib
import contextvars
import threading

import pytest
from probes import SOON, Resources, assert_no_more_than

from asgiref.sync import (
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    async_to_sync_context,
    sync_to_async,
    sync_to_async_context,
)

pytestmark = pytest.mark.timeout(20, method="thread")

variable = contextvars.ContextVar("variable", default="unset")


class Recorder:
    """A synchronous manager that records its calls and their threads."""

    def __init__(self, suppresses=False):
        self.events = []
        self.threads = []
        self.suppresses = suppresses

    def __enter__(self):
        self.threads.append(threading.current_thread())
        self.events.append("entered")
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.threads.append(threading.current_thread())
        self.events.append(exc_type)
        return self.suppresses


class AsyncRecorder(Recorder):
    async def __aenter__(self):
        await asyncio.sleep(0)
        return self.__enter__()

    async def __aexit__(self, *exc_info):
        await asyncio.sleep(0)
        return self.__exit__(*exc_info)


async def turns():
    """Let the loop run its pending callbacks."""
    for _ in range(10):
        await asyncio.sleep(0)


# Synchronous managers in asynchronous code


def test_entry_exit_and_the_blocks_calls_run_on_one_thread():
    async def main():
        recorder = Recorder()
        async with ThreadSensitiveContext(), sync_to_async_context(recorder) as value:
            inside = await sync_to_async(threading.current_thread)()
        return value is recorder, recorder, inside

    is_value, recorder, inside = asyncio.run(main())
    assert is_value
    assert recorder.events == ["entered", None]
    assert set(recorder.threads) == {inside}
    assert inside is not threading.main_thread()


def test_inside_async_to_sync_a_manager_runs_on_the_waiting_thread():
    recorder = Recorder()

    async def main():
        async with sync_to_async_context(recorder):
            pass

    async_to_sync(main)()
    assert set(recorder.threads) == {threading.current_thread()}


@pytest.mark.parametrize("thread_sensitive", [True, False])
def test_exit_sees_the_blocks_exception(thread_sensitive):
    recorder = Recorder()

    async def main():
        async with sync_to_async_context(recorder, thread_sensitive=thread_sensitive):
            raise LookupError("in the block")

    with pytest.raises(LookupError, match="in the block"):
        asyncio.run(main())
    assert recorder.events == ["entered", LookupError]


def test_exit_can_suppress_the_blocks_exception():
    recorder = Recorder(suppresses=True)

    async def main():
        async with sync_to_async_context(recorder):
            raise LookupError
        return "goes on"

    assert asyncio.run(main()) == "goes on"


def test_an_exception_from_exit_replaces_the_blocks_exception():
    @contextlib.contextmanager
    def fails():
        try:
            yield
        except LookupError as error:
            raise ValueError("from exit") from error

    async def main():
        async with sync_to_async_context(fails()):
            raise LookupError

    with pytest.raises(ValueError, match="from exit") as caught:
        asyncio.run(main())
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_stop_iteration_from_the_block_passes_through_a_manager():
    async def main():
        with pytest.raises(StopIteration, match="from the block"):
            async with sync_to_async_context(recorder):
                raise StopIteration("from the block")

    recorder = Recorder()
    asyncio.run(main())
    assert recorder.events == ["entered", StopIteration]


def test_a_manager_that_fails_to_enter_is_not_exited():
    class Closed(Recorder):
        def __enter__(self):
            raise OSError("no entry")

    recorder = Closed()

    async def main():
        async with sync_to_async_context(recorder):
            raise AssertionError("the block runs")

    with pytest.raises(OSError, match="no entry"):
        asyncio.run(main())
    assert recorder.events == []


def test_context_variables_are_exchanged_and_exit_can_use_a_token_from_entry():
    seen = []

    @contextlib.contextmanager
    def bound():
        token = variable.set("of the manager")
        yield
        seen.append(variable.get())
        variable.reset(token)

    async def main():
        variable.set("before")
        async with sync_to_async_context(bound()):
            seen.append(variable.get())
            variable.set("of the block")
        return variable.get()

    assert asyncio.run(main()) == "before"
    assert seen == ["of the manager", "of the block"]


def test_a_cancelled_block_ends_when_its_manager_has_exited():
    exiting, go_on = threading.Event(), threading.Event()
    events = []

    @contextlib.contextmanager
    def slow():
        try:
            yield
        finally:
            exiting.set()
            assert go_on.wait(SOON)
            events.append("exited")

    async def block(entered):
        async with sync_to_async_context(slow()):
            entered.set()
            await asyncio.Event().wait()

    async def main():
        entered = asyncio.Event()
        task = asyncio.create_task(block(entered))
        await entered.wait()
        task.cancel("first")
        await asyncio.to_thread(exiting.wait, SOON)
        for message in ("second", "third"):
            task.cancel(message)
            await turns()
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        events.append("task ended")

    asyncio.run(main())
    assert events == ["exited", "task ended"]


def test_a_queued_exit_whose_task_is_cancelled_still_runs():
    release, occupied = threading.Event(), threading.Event()
    recorder = Recorder()

    def occupy():
        occupied.set()
        assert release.wait(SOON)

    async def block(entered):
        async with sync_to_async_context(recorder):
            entered.set()
            await asyncio.Event().wait()

    async def main():
        entered = asyncio.Event()
        task = asyncio.create_task(block(entered))
        await entered.wait()
        occupant = asyncio.create_task(sync_to_async(occupy)())
        await asyncio.to_thread(occupied.wait, SOON)
        for _ in range(2):
            task.cancel()
            await turns()
        release.set()
        await occupant
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert recorder.events == ["entered", asyncio.CancelledError]


def test_a_task_that_is_cancelled_while_a_manager_enters_does_not_wait_and_the_manager_exits():
    entering, go_on, exited = threading.Event(), threading.Event(), threading.Event()
    seen = []

    class Slow:
        def __enter__(self):
            entering.set()
            assert go_on.wait(SOON)

        def __exit__(self, exc_type, exc_value, traceback):
            seen.append((exc_type, threading.current_thread()))
            exited.set()

    async def block():
        async with sync_to_async_context(Slow()):
            raise AssertionError("the block runs")

    async def main():
        task = asyncio.create_task(block())
        await asyncio.to_thread(entering.wait, SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not exited.is_set()
        go_on.set()
        assert await asyncio.to_thread(exited.wait, SOON)
        return await sync_to_async(threading.current_thread)()

    thread = asyncio.run(main())
    assert seen == [(asyncio.CancelledError, thread)]


def test_a_manager_whose_entry_was_cancelled_exits_even_if_its_thread_is_busy_when_the_loop_ends():
    release, occupied, exited = threading.Event(), threading.Event(), threading.Event()
    threads = []

    class Manager:
        def __enter__(self):
            threads.append(threading.current_thread())

        def __exit__(self, exc_type, exc_value, traceback):
            threads.append(threading.current_thread())
            exited.set()

    def occupy():
        occupied.set()
        release.wait(SOON)

    async def block():
        async with sync_to_async_context(Manager()):
            raise AssertionError("the block runs")

    async def main():
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        SyncToAsync.single_thread_executor.submit(occupy)
        assert occupied.wait(SOON)  # the loop is blocked until the manager is entered
        task.cancel()

    asyncio.run(main())
    assert not exited.is_set()
    release.set()
    assert exited.wait(SOON)
    assert len(set(threads)) == 1


def test_an_entry_that_was_queued_when_its_task_was_cancelled_never_runs():
    release, occupied = threading.Event(), threading.Event()
    recorder = Recorder()

    def occupy():
        occupied.set()
        assert release.wait(SOON)

    async def block():
        async with sync_to_async_context(recorder):
            raise AssertionError("the block runs")

    async def main():
        occupant = asyncio.create_task(sync_to_async(occupy)())
        await asyncio.to_thread(occupied.wait, SOON)
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        await occupant
        await sync_to_async(int)()

    asyncio.run(main())
    assert recorder.events == []


def test_an_entered_manager_refuses_a_second_block():
    async def main():
        manager = sync_to_async_context(Recorder())
        async with manager:
            with pytest.raises(RuntimeError, match="already entered"):
                async with manager:
                    raise AssertionError("the block runs")

    asyncio.run(main())


def test_a_threading_lock_can_be_held_across_awaits():
    lock = threading.Lock()
    inside = []

    async def worker(number):
        async with sync_to_async_context(lock, thread_sensitive=False):
            inside.append(number)
            assert len(inside) == 1
            await asyncio.sleep(0)
            inside.remove(number)

    async def main():
        await asyncio.gather(*[worker(number) for number in range(3)])

    asyncio.run(asyncio.wait_for(main(), SOON))
    assert not lock.locked()


# Asynchronous managers in synchronous code


def test_an_asynchronous_manager_runs_on_one_loop_at_top_level():
    loops = []

    class OnLoop:
        async def __aenter__(self):
            loops.append(asyncio.get_running_loop())
            return "value"

        async def __aexit__(self, *exc_info):
            loops.append(asyncio.get_running_loop())

    async def current_loop():
        return asyncio.get_running_loop()

    with async_to_sync_context(OnLoop()) as value:
        assert value == "value"
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


@pytest.mark.parametrize("entered", ["at top level", "in async code"])
def test_an_asynchronous_manager_exits_on_the_loop_that_it_entered_on(entered):
    loops = []

    class OnLoop:
        async def __aenter__(self):
            loops.append(asyncio.get_running_loop())

        async def __aexit__(self, *exc_info):
            loops.append(asyncio.get_running_loop())

    manager = async_to_sync_context(OnLoop())
    leave = (manager.__exit__, None, None, None)

    async def main():
        if entered == "in async code":
            await sync_to_async(manager.__enter__)()
            await asyncio.to_thread(*leave)
        else:
            await sync_to_async(leave[0])(*leave[1:])

    if entered == "at top level":
        manager.__enter__()
    asyncio.run(main())
    assert loops[0] is loops[1]


def test_an_asynchronous_manager_runs_on_the_calling_loop():
    recorder = AsyncRecorder()

    def work():
        with async_to_sync_context(recorder) as value:
            return value is recorder

    assert asyncio.run(sync_to_async(work)())
    assert set(recorder.threads) == {threading.current_thread()}
    assert recorder.events == ["entered", None]


def test_an_asynchronous_exit_sees_the_blocks_exception_and_can_suppress_it():
    recorder = AsyncRecorder()
    with pytest.raises(LookupError), async_to_sync_context(recorder):
        raise LookupError
    assert recorder.events == ["entered", LookupError]
    with async_to_sync_context(AsyncRecorder(suppresses=True)):
        raise LookupError


def test_an_asynchronous_managers_context_variables_are_exchanged():
    seen = []

    @contextlib.asynccontextmanager
    async def bound():
        token = variable.set("of the manager")
        yield
        seen.append(variable.get())
        variable.reset(token)

    def main():
        variable.set("before")
        with async_to_sync_context(bound()):
            seen.append(variable.get())
            variable.set("of the block")
        return variable.get()

    assert contextvars.copy_context().run(main) == "before"
    assert seen == ["of the manager", "of the block"]


def test_an_asynchronous_manager_on_a_loops_thread_is_refused():
    async def main():
        with (
            pytest.raises(RuntimeError, match="same thread"),
            async_to_sync_context(AsyncRecorder()),
        ):
            raise AssertionError("the block runs")

    asyncio.run(main())


def test_blocks_leave_no_loop_and_no_thread_behind():
    def once():
        with async_to_sync_context(AsyncRecorder()):
            pass

        async def main():
            async with sync_to_async_context(Recorder()):
                pass

        asyncio.run(main())

    once()
    before = Resources.now()
    for _ in range(10):
        once()
    assert_no_more_than(before, spare=2)
