"""The server keeps working after loops are closed, threads hang and tasks do not end."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asgiref.server import StatelessServer

pytestmark = pytest.mark.timeout(60)
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals are sent as POSIX does")


class Server(StatelessServer):
    def __init__(self, application, **options):
        super().__init__(application, **options)
        self.sent, self.undelivered = [], []

    async def handle(self):
        self.put("a", "hello")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def put(self, name, message):
        scope = {"type": "test", "id": name}
        self.get_or_create_application_instance(name, scope).put_nowait(message)

    async def application_send(self, scope, message):
        self.sent.append(message)

    async def application_undelivered(self, messages, details):
        self.undelivered += messages


async def echo(scope, receive, send):
    while True:
        await send(await receive())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["handle", "hook"])
def test_a_server_whose_loop_was_closed_in_the_middle_runs_again(where):
    class Stuck(Server):
        stuck = True

        async def handle(self):
            await super().handle()
            if self.stuck and where == "handle":
                await asyncio.Event().wait()
            gc.collect()  # destroys the coroutines that the closed loop left
            await asyncio.sleep(0)

        async def application_exception(self, exception, details):
            if self.stuck:
                await asyncio.Event().wait()

    async def application(scope, receive, send):
        message = await receive()
        if server.stuck and where == "hook":
            raise LookupError
        await send(message)

    server = Stuck(application, shutdown_timeout=3600)
    loop = asyncio.new_event_loop()
    task = loop.create_task(server.arun())
    for _ in range(20):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    server.stuck = False
    server.sent.clear()
    asyncio.run(asyncio.wait_for(server.arun(), 20))
    assert server.sent == ["hello"]
    task._log_destroy_pending = False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_on_a_closed_loop_that_is_destroyed_later_does_not_affect_the_next_run():
    class Stuck(Server):
        async def handle(self):
            if stuck:
                await asyncio.Event().wait()
            stuck_run.clear()
            gc.collect()  # destroys the coroutine of the first run
            await super().handle()

    server, stuck = Stuck(echo, shutdown_timeout=30), True
    loop = asyncio.new_event_loop()
    stuck_run = [loop.create_task(server.arun())]
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    stuck_run[0]._log_destroy_pending = stuck = False
    asyncio.run(asyncio.wait_for(server.arun(), 20))
    assert server.sent == ["hello"]
    assert server.undelivered == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_kept_queue_still_works_after_its_loop_was_closed_in_the_middle():
    class Kept(Server):
        async def handle(self):
            if not kept:
                scope = {"type": "test", "id": "a"}
                kept.append(self.get_or_create_application_instance("a", scope))
                await asyncio.Event().wait()
            kept[0].put_nowait("hello")
            await asyncio.sleep(0)
            self.put("a", "again")

    server, kept = Kept(echo, shutdown_timeout=30), []
    loop = asyncio.new_event_loop()
    task = loop.create_task(server.arun())
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.run(asyncio.wait_for(server.arun(), 20))
    assert server.sent == ["hello", "again"]
    assert server.undelivered == []
    task._log_destroy_pending = False


def test_a_scope_whose_application_was_abandoned_is_served_by_the_next_run(monkeypatch):
    async def application(scope, receive, send):
        first = not tasks
        tasks.append(asyncio.current_task())
        while first:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await send(await receive())

    monkeypatch.setattr("asgiref.server._running._CLEANUP_SECONDS", 0.01)
    tasks = []
    server = Server(application, shutdown_timeout=0.01)
    server.run()
    assert server.undelivered == ["hello"]
    server.run()
    assert server.sent == ["hello"]


def test_a_subclass_may_run_its_own_main_loop_on_one_thread_after_another():
    class Own(Server):
        def run(self):
            asyncio.run(self.handle())

    def run():
        try:
            server.run()
        except BaseException as error:
            errors.append(error)

    server, errors = Own(echo), []
    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(20)
    assert errors == []
    assert server.sent == ["hello"] * 3


def test_run_on_another_thread_does_not_affect_the_running_server():
    class Long(Server):
        async def handle(self):
            self.put("a", "one")
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.run_by_mistake)
            self.put("a", "two")

        def run_by_mistake(self):
            with pytest.raises(RuntimeError, match="is already running"):
                self.run()

    server = Long(echo, shutdown_timeout=30)
    server.run()
    assert server.sent == ["one", "two"]
    assert server.undelivered == []


def test_an_arun_that_raises_before_it_runs_leaves_no_event_loop():
    class Broken(Server):
        def arun(self):
            raise LookupError("not written yet")

    with pytest.raises(LookupError):
        Broken(echo).run()  # an unclosed loop would be a ResourceWarning, which fails the test


SCRIPT = """
import asyncio, contextlib, logging, multiprocessing, os, signal, sys, threading, time
from asgiref.server import StatelessServer

async def endless():
    try:
        while True:
            yield
            await asyncio.sleep(0)
    finally:
        await asyncio.Event().wait()

async def application(scope, receive, send):
    while True:
        try:
            await (receive() if sys.argv[1] == "bare except" else asyncio.Event().wait())
        except:
            if sys.argv[1] != "bare except":
                raise

class Server(StatelessServer):
    async def handle(self):
        if sys.argv[1] == "forked child":
            context = multiprocessing.get_context("fork")
            reading, writing = context.Pipe(duplex=False)
            context.Process(target=wait_after_a_word, args=[writing], daemon=True).start()
            return reading.recv()
        if sys.argv[1] == "forked server":
            child = multiprocessing.get_context("fork").Process(target=Child(application).run)
            child.start()
            await asyncio.to_thread(child.join)
            return print("exit", child.exitcode, flush=True)
        if sys.argv[1] == "returns":
            return
        if sys.argv[1] not in ("thread", "slow end"):
            self.get_or_create_application_instance("a", {"type": "test"})
        if sys.argv[1] == "generator":
            self.generator = endless()
            await anext(self.generator)
        await asyncio.sleep(0)
        if sys.argv[1] == "slow end":
            try:
                await asyncio.to_thread(wait_for_ever)
            finally:
                print("closing", flush=True)
                await asyncio.Event().wait()
        if sys.argv[1] == "own handler":
            signal.signal(signal.SIGTERM, own)
            return
        if sys.argv[1] == "thread":
            await asyncio.to_thread(wait_for_ever)
        print("ready", flush=True)
        if sys.argv[1] == "signal in a thread":
            threading.Thread(target=raise_here).start()
        await asyncio.Event().wait()

class Child(StatelessServer):
    async def handle(self):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            print("cleaned up", flush=True)

def raise_here():
    time.sleep(0.1)  # the loop waits in its selector now, which this signal does not interrupt
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

def wait_after_a_word(pipe):
    pipe.send("ready")
    threading.Event().wait()

def wait_for_ever():
    print("ready", flush=True)
    threading.Event().wait()

def own(*_):
    pass

logging.basicConfig()
Server(application, shutdown_timeout=float(sys.argv[2])).run()
print("after run", signal.getsignal(signal.SIGTERM) is own, flush=True)
"""


@contextlib.contextmanager
def script(what, shutdown_timeout=0.01, prefix=(), **options):
    command = [*prefix, sys.executable, "-c", SCRIPT, what, str(shutdown_timeout)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@posix_only
@pytest.mark.parametrize("what", ["generator", "thread", "bare except"])
def test_one_sigterm_ends_the_process_despite_threads_and_tasks_that_do_not_end(what):
    with script(what) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert output == "after run False\n"
    assert process.returncode == (-signal.SIGTERM if what == "thread" else 0)


@posix_only
def test_a_second_sigterm_while_the_server_closes_does_not_wait_for_threads():
    with script("slow end", shutdown_timeout=3600) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert output == "after run False\n"
    assert process.returncode == -signal.SIGTERM


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_threads_says_so_and_another_signal_ends_it(number):
    with script("thread", shutdown_timeout=3600, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        line = process.stderr.readline()
        assert "Waiting for threads that are still running: [<Thread(asyncio_0" in line
        assert f"Another {number.name} kills the process immediately" in line
        process.send_signal(number)
        process.communicate(timeout=30)


@posix_only
def test_a_signal_that_does_not_interrupt_the_waiting_loop_ends_the_process():
    with script("signal in a thread") as process:
        output, _ = process.communicate(timeout=30)
    assert output == "ready\nafter run False\n"
    assert process.returncode == 0


def run_with_children(what):
    """Return the output and exit status of a script; kill the children that it leaves behind."""
    with script(what, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return output, process.returncode


@posix_only
def test_a_process_that_was_forked_by_a_running_server_can_be_terminated():
    # At its exit, the program terminates its daemon process, and waits for it.
    assert run_with_children("forked child") == ("after run False\n", 0)


@posix_only
def test_a_server_in_a_forked_child_of_a_running_server_handles_signals_itself():
    output, _ = run_with_children("forked server")
    assert output == "cleaned up\nexit 0\nafter run False\n"


def test_a_server_runs_in_a_subinterpreter():
    interpreters = pytest.importorskip("_interpreters", reason="Python 3.13 introduced it")
    interpreter = interpreters.create()
    try:
        code = SCRIPT.replace("sys.argv", "['', 'returns', '0.01']")
        assert interpreters.run_string(interpreter, code) is None
    finally:
        interpreters.destroy(interpreter)


_NEW_NAMESPACE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]


def _can_be_the_first_process():
    try:
        return subprocess.run([*_NEW_NAMESPACE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _can_be_the_first_process(), reason="needs a PID namespace of its own")
def test_one_sigterm_also_ends_the_first_process_of_a_container():
    with script("thread", prefix=_NEW_NAMESPACE) as process:
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert output == "after run False\n"
    assert process.returncode == 128 + signal.SIGTERM


@posix_only
def test_a_signal_handler_that_the_program_sets_meanwhile_is_kept():
    with script("own handler") as process:
        output, _ = process.communicate(timeout=30)
    assert output.splitlines()[-1] == "after run True"
