"""run() and arun(): how a server shuts down, without leaving tasks or threads behind."""

import asyncio
import gc
import os
import signal
import subprocess
import sys

import pytest

from asgiref.server import StatelessServer


async def echo(scope, receive, send):
    while True:
        await send(await receive())


@pytest.mark.asyncio
async def test_arun_ends_when_handle_returns_and_leaves_nothing(make_server, no_task_left, settled):
    server = make_server(echo)
    running = asyncio.create_task(server.arun())
    server.queue("a")
    await settled()
    server.finished.set()
    await running
    assert not server.application_instances
    no_task_left()


@pytest.mark.asyncio
async def test_arun_raises_the_exception_that_handle_raises(make_server, no_task_left, settled):
    class Server(make_server):
        async def handle(self):
            self.queue("a")
            await settled()
            raise ConnectionError("lost")

    with pytest.raises(ConnectionError, match="lost"):
        await Server(echo).arun()
    no_task_left()


@pytest.mark.asyncio
async def test_a_cancelled_arun_cleans_up(make_server, no_task_left, settled):
    server = make_server(echo)
    running = asyncio.create_task(server.arun())
    server.queue("a")
    await settled()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not server.application_instances
    no_task_left()


@pytest.mark.asyncio
async def test_a_server_can_run_again(make_server, no_task_left):
    server = make_server(echo)
    for number in range(2):
        server.finished.clear()
        running = asyncio.create_task(server.arun())
        server.put("a", number)
        assert await server.next_sent() == ("a", number)
        server.finished.set()
        await running
    no_task_left()


@pytest.mark.asyncio
async def test_applications_finish_the_messages_that_they_have(make_server, no_task_left):
    async def application(scope, receive, send):
        while True:
            message = await receive()
            await asyncio.sleep(0)
            await send(message)

    server = make_server(application, shutdown_timeout=30)
    running = asyncio.create_task(server.arun())
    for number in range(3):
        server.put("a", number)
    server.queue("idle")
    server.finished.set()
    await asyncio.wait_for(running, 10)
    assert [server.sent.get_nowait() for _ in range(3)] == [("a", n) for n in range(3)]
    assert server.undelivered == []
    no_task_left()


@pytest.mark.asyncio
async def test_applications_that_do_not_finish_are_cancelled(make_server, no_task_left):
    async def application(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            await send("bye")

    server = make_server(application, shutdown_timeout=0.01)
    running = asyncio.create_task(server.arun())
    server.put("a", "never received")
    server.finished.set()
    await running
    assert server.sent.get_nowait() == ("a", "bye")
    assert server.undelivered == [("a", ["never received"])]
    no_task_left()


@pytest.mark.asyncio
async def test_a_second_cancellation_cuts_the_grace_short(make_server, no_task_left, settled):
    async def application(scope, receive, send):
        await asyncio.Event().wait()

    server = make_server(application, shutdown_timeout=3600)
    running = asyncio.create_task(server.arun())
    server.queue("a")
    await settled()
    running.cancel()
    await settled()
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 10)
    no_task_left()


@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_a_cancellation_that_anyio_repeats_counts_once(make_server, no_task_left, settled):
    async def application(scope, receive, send):
        while True:
            message = await receive()
            await settled()
            received.append(message)

    received = []
    server = make_server(application, shutdown_timeout=3600)
    running = asyncio.create_task(server.arun())
    for number in range(5):
        server.put("a", number)
    await asyncio.sleep(0)
    while not running.done():
        running.cancel("Cancelled by cancel scope 1")
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError, match="Cancelled by cancel scope 1"):
        await running
    assert received == list(range(5))
    assert server.undelivered == []
    no_task_left()


@pytest.mark.asyncio
async def test_a_second_cancellation_also_counts_while_handle_is_ending(
    make_server, no_task_left, settled
):
    class Server(make_server):
        async def handle(self):
            try:
                await asyncio.Event().wait()
            finally:
                await go.wait()

    async def application(scope, receive, send):
        await asyncio.Event().wait()

    go = asyncio.Event()
    server = Server(application, shutdown_timeout=3600)
    running = asyncio.create_task(server.arun())
    server.queue("a")
    await settled()
    running.cancel()
    await settled()
    running.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(running), 10)
    no_task_left()


@pytest.mark.asyncio
async def test_failures_at_the_very_end_are_still_reported(make_server, no_task_left):
    async def application(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("at the end")

    server = make_server(application, shutdown_timeout=0)
    running = asyncio.create_task(server.arun())
    server.queue("a")
    await asyncio.sleep(0)
    server.finished.set()
    await running
    assert server.failures == [("a", "at the end")]
    no_task_left()


@pytest.mark.asyncio
async def test_a_message_during_shutdown_is_undelivered(make_server, no_task_left, settled):
    async def application(scope, receive, send):
        if scope["id"] == "a":
            return
        await settled()
        kept.put_nowait("too late")

    server = make_server(application, shutdown_timeout=10)
    kept = server.queue("a")
    await settled()
    running = asyncio.create_task(server.arun())
    await asyncio.sleep(0)
    server.queue("b")
    server.finished.set()
    await running
    assert server.undelivered == [("a", ["too late"])]
    no_task_left()


@pytest.mark.asyncio
async def test_a_checker_of_a_subclass_is_run_and_may_end_the_server(make_server, no_task_left):
    class Server(make_server):
        async def application_checker(self):
            raise LookupError("checked")

    with pytest.raises(LookupError, match="checked"):
        await Server(echo).arun()
    no_task_left()


@pytest.mark.asyncio
async def test_a_checker_that_returns_does_not_end_the_server(make_server, settled):
    class Server(make_server):
        async def application_checker(self):
            pass

    server = Server(echo)
    running = asyncio.create_task(server.arun())
    await settled()
    assert not running.done()
    server.finished.set()
    await running


@pytest.mark.asyncio
async def test_a_server_with_its_own_main_loop_starts_the_checker_and_handle(make_server, settled):
    async def application(scope, receive, send):
        raise LookupError("found")

    server = make_server(application)
    checker = asyncio.create_task(server.application_checker())
    handler = asyncio.create_task(server.handle())
    server.queue("a")
    await settled()
    assert server.failures == [("a", "found")]
    assert not checker.done()
    for task in (checker, handler):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.asyncio
async def test_a_worker_like_that_of_channels_serves_its_channels(no_task_left):
    class Worker(StatelessServer):
        def __init__(self, application, channels, layer, max_applications=1000):
            super().__init__(application, max_applications)
            self.channels, self.layer = channels, layer

        async def handle(self):
            listeners = [asyncio.ensure_future(self.listener(c)) for c in self.channels]
            await asyncio.wait(listeners)
            [listener.result() for listener in listeners]

        async def listener(self, channel):
            while (message := await self.layer[channel].get()) is not None:
                scope = {"type": "channel", "channel": channel}
                queue = self.get_or_create_application_instance(channel, scope)
                await queue.put(message)

        async def application_send(self, scope, message):
            sent.append((scope["channel"], message))

    sent, layer = [], {"x": asyncio.Queue(), "y": asyncio.Queue()}
    for channel, queue in layer.items():
        for message in (1, 2, None):
            queue.put_nowait(message)
        assert channel in layer
    await asyncio.wait_for(Worker(echo, ["x", "y"], layer).arun(), 10)
    assert sorted(sent) == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]
    no_task_left()


@pytest.mark.asyncio
async def test_nothing_is_logged_after_the_shutdown(make_server, no_task_left, settled):
    async def application(scope, receive, send):
        if scope["id"] % 2:
            raise LookupError("broken")
        try:
            await receive()
        finally:
            raise ZeroDivisionError("while it ended")

    class Server(make_server):
        async def application_exception(self, exception, application_details):
            raise OSError("in the hook")

        async def application_checker(self):
            try:
                await asyncio.Event().wait()
            finally:
                raise ConnectionError("the checker")

    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    server = Server(application, max_applications=3)
    running = asyncio.create_task(server.arun())
    for number in range(10):
        server.put(number, "message")
    await settled()
    server.finished.set()
    await running
    del running, server
    gc.collect()
    await settled()
    assert complaints == []
    no_task_left()


@pytest.mark.asyncio
async def test_a_handle_failure_that_is_overtaken_by_a_cancellation_is_logged(
    make_server, caplog, no_task_left, settled
):
    class Server(make_server):
        async def handle(self):
            try:
                await asyncio.Event().wait()
            finally:
                raise ConnectionError("lost")

    running = asyncio.create_task(Server(echo).arun())
    await settled()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "ConnectionError: lost" in caplog.text
    no_task_left()


@pytest.mark.timeout(30)
def test_a_cleanup_starts_no_instance_when_a_server_with_its_own_arun_has_ended(caplog):
    received, undelivered = [], []

    async def application(scope, receive, send):
        try:
            received.append(await receive())
            await receive()
        finally:
            server.put(f"{scope['id']}, partner", "goodbye")

    class Server(StatelessServer):
        def put(self, scope_id, message):
            scope = {"type": "test", "id": scope_id}
            self.get_or_create_application_instance(scope_id, scope).put_nowait(message)

        async def arun(self):
            self.put("a", "hello")
            for _ in range(20):
                await asyncio.sleep(0)

        async def application_undelivered(self, messages, application_details):
            undelivered.append((application_details.scope_id, messages))

    server = Server(application)
    for _ in range(2):  # it can run again
        server.run()
        assert received == ["hello"]
        assert undelivered == [("a, partner", ["goodbye"])]
        received.clear()
        undelivered.clear()
    assert "abandoned" not in caplog.text


SCRIPT = """
import asyncio, logging, os, signal, sys, threading, time
from asgiref.server import StatelessServer

# Who runs the tests in the background of a shell has SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

async def application(scope, receive, send):
    try:
        await receive()
        print("busy", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)

def stay_stubborn():
    say_signals()
    said = False
    while True:
        try:
            if not said:
                said = True
                os.write(1, b"stuck\\n")  # in here, because the signal comes at once
            time.sleep(0.01)
        except KeyboardInterrupt:
            os.write(1, b"swallowed\\n")

def say_signals():
    handler = signal.getsignal(signal.SIGINT)

    def say(number, frame):
        os.write(1, b"interrupted\\n")  # a print might be interrupted itself
        handler(number, frame)

    signal.signal(signal.SIGINT, say)
    signal.signal(signal.SIGTERM, say)

def stay_away_from_the_loop():
    say_signals()
    os.write(1, b"stuck\\n")
    while True:
        time.sleep(0.01)

class Server(StatelessServer):
    async def arun(self):
        try:
            await super().arun()
        except asyncio.CancelledError:
            if "own arun" in sys.argv:
                print("arun was cancelled", flush=True)
            while "deaf" in sys.argv:
                print("deaf", flush=True)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
            raise

    async def handle(self):
        queue = self.get_or_create_application_instance("a", {"type": "test"})
        if "busy" in sys.argv:
            queue.put_nowait("message")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if "thread" in sys.argv:
            # The server shuts down by itself, and then waits for this thread.
            asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
            return
        print("ready", flush=True)
        if "stuck" in sys.argv:
            stay_away_from_the_loop()
        if "stubborn" in sys.argv:
            stay_stubborn()
        try:
            await asyncio.Event().wait()
        finally:
            print("told to end", flush=True)
            if "stuck at the end" in sys.argv:
                os.write(1, b"stuck\\n")
                time.sleep(1)  # after half a second, the server takes the loop for stuck
                os.write(1, b"still stuck\\n")
                time.sleep(3600)

class WaitingLoop(asyncio.SelectorEventLoop):
    async def shutdown_default_executor(self, *args):
        self.call_soon(lambda: print("waiting for threads", flush=True))
        await super().shutdown_default_executor(*args)

if "thread" in sys.argv:
    asyncio.new_event_loop = WaitingLoop
server = Server(application, shutdown_timeout=0 if "thread" in sys.argv else 3600)
if "bare loop" in sys.argv:
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(server.arun())
    except KeyboardInterrupt:
        print("KeyboardInterrupt")
    loop.close()
else:
    server.run()
print("after run")
"""


class Script:
    """A script in a separate process, whose output is read line by line."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, line):
        for said in self.process.stdout:
            if said.strip() == line:
                return
        raise AssertionError(f"it never said {line!r}: {self.process.stderr.read()}")

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        output, errors = self.process.communicate(timeout=30)
        return output.splitlines(), errors, self.process.returncode


posix_only = pytest.mark.skipif(os.name == "nt", reason="signals are sent as POSIX does")
LAST_WORDS = {
    signal.SIGINT: "Exiting due to Ctrl-C/interrupt",
    signal.SIGTERM: "Exiting due to SIGTERM",
}


@posix_only
@pytest.mark.parametrize("number", LAST_WORDS)
def test_run_ends_cleanly_on_a_signal(number):
    script = Script()
    script.until("ready")
    script.signal(number)
    output, errors, status = script.end()
    assert output == ["told to end", "cleaned up", LAST_WORDS[number], "after run"]
    assert (errors, status) == ("", 0)


@posix_only
@pytest.mark.parametrize("number", LAST_WORDS)
def test_an_overridden_arun_sees_a_signal_as_a_cancellation(number):
    script = Script("own arun")
    script.until("ready")
    script.signal(number)
    output, errors, status = script.end()
    assert output[-3:] == ["arun was cancelled", LAST_WORDS[number], "after run"]
    assert (errors, status) == ("", 0)


@posix_only
@pytest.mark.parametrize("number", LAST_WORDS)
def test_a_second_signal_cuts_the_grace_short(number):
    script = Script("busy")
    script.until("ready")
    script.signal(number)
    script.until("told to end")
    script.signal(number)
    output, errors, status = script.end()
    assert output == ["cleaned up", LAST_WORDS[number], "after run"]
    assert (errors, status) == ("", 0)


@posix_only
@pytest.mark.parametrize("number", LAST_WORDS)
def test_a_second_signal_interrupts_code_that_does_not_return_to_the_loop(number):
    script = Script("stuck")
    script.until("stuck")
    script.signal(number)
    script.until("interrupted")
    script.signal(number)
    output, errors, status = script.end()
    assert output == ["interrupted", "cleaned up", LAST_WORDS[signal.SIGINT], "after run"]
    assert (errors, status) == ("", 0)


@posix_only
@pytest.mark.parametrize("number", LAST_WORDS)
def test_a_second_signal_also_interrupts_a_cleanup_that_is_stuck(number):
    script = Script("stuck at the end")
    script.until("ready")
    script.signal(number)
    script.until("stuck")
    script.until("still stuck")
    script.signal(number)
    output, _, status = script.end()
    assert output[-1] == "after run"
    assert status == 0


@posix_only
@pytest.mark.parametrize("number", LAST_WORDS)
def test_a_third_signal_ends_a_process_that_swallows_the_second(number):
    script = Script("stubborn")
    script.until("stuck")
    script.signal(number)
    script.until("interrupted")  # pending signals of the same kind are merged
    script.signal(number)
    script.until("swallowed")
    script.signal(number)
    _, _, status = script.end()
    assert status == -number


@posix_only
@pytest.mark.timeout(60)
def test_one_signal_ends_a_server_that_only_waits_for_a_thread():
    script = Script("thread")
    script.until("waiting for threads")
    script.signal(signal.SIGTERM)
    output, errors, status = script.end()
    assert output[:2] == [LAST_WORDS[signal.SIGTERM], "after run"]
    assert "Traceback" not in errors
    assert status == -signal.SIGTERM


@posix_only
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", LAST_WORDS)
def test_the_sixth_signal_ends_a_process_whose_arun_ignores_cancellation(number):
    script = Script("deaf")
    script.until("ready")
    for _ in range(5):
        script.signal(number)
        script.until("deaf")
    script.signal(number)
    _, _, status = script.end()
    assert status == -number


@posix_only
@pytest.mark.parametrize(
    ("number", "said", "status"),
    [
        (signal.SIGINT, ["KeyboardInterrupt", "after run"], 0),
        (signal.SIGTERM, [], -signal.SIGTERM),
    ],
)
def test_arun_leaves_signals_to_the_program_that_awaits_it(number, said, status):
    script = Script("bare loop")
    script.until("ready")
    script.signal(number)
    output, _, returned = script.end()
    assert [line for line in said if line not in output] == []
    assert returned == status
