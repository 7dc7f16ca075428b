"""Applications that ignore their cancellation: the test fails and does not hang."""

import asyncio
import contextlib
import selectors
import subprocess
import sys

import pytest

from asgiref.testing import ApplicationCommunicator, CommunicatorStack, HttpExchange, Lifespan


class JumpingSelector(selectors.DefaultSelector):
    """Makes time pass without waiting: instead of sleeping, the loop advances its clock."""

    elapsed = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise AssertionError("the loop would wait forever")
        self.elapsed += max(timeout, 0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.clock = JumpingSelector()
        super().__init__(self.clock)

    def time(self):
        return self.clock.elapsed


def run(main):
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


async def stubborn(scope, receive, send):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


IGNORED = r"stubborn ignored its cancellation: it was waiting at test_testing_stuck\.py:\d+"


@pytest.mark.parametrize("helper", [ApplicationCommunicator, HttpExchange])
def test_leaving_a_block_fails_and_names_the_application(helper):
    async def main():
        arguments = ({"type": "test"},) if helper is ApplicationCommunicator else ()
        communicator = helper(stubborn, *arguments)
        with pytest.raises(TimeoutError, match="stubborn") as caught:
            async with communicator:
                await asyncio.sleep(0)
        assert communicator.future.done()
        return caught.value

    error = run(main)
    assert "ignored its cancellation" in "\n".join([str(error), *getattr(error, "__notes__", [])])


@pytest.mark.parametrize("call", ["receive_output", "wait"])
def test_a_call_that_times_out_raises_its_timeout_with_a_note(call):
    async def main():
        async with ApplicationCommunicator(stubborn, {}) as communicator:
            with pytest.raises(TimeoutError, match=r"within 0\.1 s") as caught:
                await getattr(communicator, call)(timeout=0.1)
            [note] = caught.value.__notes__
            with pytest.raises(TimeoutError, match=IGNORED):
                await communicator.send_input({"type": "any"})
        return note

    assert run(main).startswith(f"{__name__}.stubborn ignored its cancellation")


def test_a_blocks_error_is_kept_and_gets_a_note():
    async def main():
        async with ApplicationCommunicator(stubborn, {}):
            await asyncio.sleep(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        run(main)
    assert "stubborn ignored its cancellation" in caught.value.__notes__[0]


def test_a_lifespan_whose_startup_hangs_ends_too():
    async def main():
        async with Lifespan(stubborn):
            raise AssertionError("not started")

    with pytest.raises(TimeoutError, match="stubborn sent nothing within 5 s") as caught:
        run(main)
    assert "ignored its cancellation" in caught.value.__notes__[0]


def test_closing_the_stack_after_a_test_fails():
    stack = CommunicatorStack()

    async def test():
        await stack(ApplicationCommunicator(stubborn, {}))
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(test())
        with pytest.raises(TimeoutError, match=IGNORED):
            stack.close()


def test_a_slow_cleanup_is_not_cut_short():
    cleaned = []

    async def slow(scope, receive, send):
        try:
            await receive()
        finally:
            await asyncio.sleep(4)
            cleaned.append(True)

    async def main():
        async with ApplicationCommunicator(slow, {}):
            await asyncio.sleep(0)

    run(main)
    assert cleaned == [True]


async def retries_a_rejected_event(scope, receive, send):
    while True:
        with contextlib.suppress(Exception):
            await send({"type": "nonsense"})


async def retries_after_the_disconnect(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    while True:
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"more", "more_body": True})


@pytest.mark.timeout(30)
@pytest.mark.parametrize("helper", [HttpExchange, Lifespan])
def test_an_application_that_sends_a_rejected_event_in_a_loop_does_not_freeze_the_test(helper):
    async def main():
        with pytest.raises(AssertionError, match="nonsense"):
            async with helper(retries_a_rejected_event, timeout=0.05) as exchange:
                await exchange.start()

    asyncio.run(main())


@pytest.mark.timeout(30)
def test_an_application_that_sends_in_a_loop_after_the_disconnect_does_not_freeze_the_test():
    async def main():
        async with HttpExchange(retries_after_the_disconnect, timeout=0.05) as exchange:
            await exchange.start()

    with pytest.raises(TimeoutError, match=r"did not end within 0\.05 s of the disconnect"):
        asyncio.run(main())


def test_an_application_that_catches_everything_stops_neither_the_loop_nor_the_process():
    source = f"""
import asyncio, sys
sys.path.insert(0, {__file__!r}.rpartition("/")[0])
from test_testing_stuck import run
from asgiref.testing import ApplicationCommunicator

async def catching(scope, receive, send):
    while True:
        try:
            await asyncio.sleep(3600)
        except:
            pass

async def main():
    async with ApplicationCommunicator(catching, {{}}):
        await asyncio.sleep(0)

try:
    run(main)
except TimeoutError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.startswith("__main__.catching ignored its cancellation")


@pytest.mark.parametrize("helper", [ApplicationCommunicator, HttpExchange, Lifespan])
def test_a_test_that_is_cancelled_while_its_block_ends_leaves_no_application(helper):
    async def waiting(scope, receive, send):
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()

    async def main():
        arguments = ({"type": "test"},) if helper is ApplicationCommunicator else ()
        communicator = helper(waiting, *arguments)

        async def test():
            async with communicator:
                await asyncio.sleep(0)
                raise LookupError

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(test(), 1)
        return communicator.future

    # When the loop ends, it waits for all tasks, or fails if it would wait forever.
    assert isinstance(run(main).exception(), RuntimeError)
