"""An ASGI application under a WSGI server: forks, threads that outlive the main one, and exit."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

SITE = """
import asyncio, os, sys, threading, time
from wsgi_caller import START, Request, answer_with, call, make_environ, read_body
from asgiref.sync import sync_to_async
from asgiref.wsgi import AsgiToWsgi

def say(*words):
    # One write: other threads and processes write, too.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def site(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["process"] = os.getpid()
        say("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["state"]["process"] == os.getpid()
    loop = asyncio.get_running_loop()
    if loop not in loops:
        loops.append(loop)
    await answer_with(send, str(os.getpid()).encode())

loops = []
application = AsgiToWsgi(site, lifespan="on")

def ask():
    assert call(application).body == str(os.getpid()).encode()
"""


#: In debug mode, asyncio warns about slow callbacks, and on a loaded machine many are slow.
QUIET = """
import logging

logging.getLogger("asyncio").setLevel(logging.ERROR)
"""


def run(script, *, first="", status=0, warnings="error"):
    """Run the script in a separate process; return the lines that it prints."""
    source = first + QUIET + SITE + textwrap.dedent(script)
    support = str(Path(__file__).with_name("support"))
    path = os.pathsep.join([support, *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", warnings, "-c", source],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (result.returncode, result.stderr) == (status, "")
    return result.stdout.splitlines()


starts_threads_at_exit = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="CPython 3.12 starts no thread once its main thread has ended",
)


@starts_threads_at_exit
def test_the_lifespan_ends_at_exit_and_threads_work_until_then():
    lines = run(
        """
        async def thorough(scope, receive, send):
            if scope["type"] == "http":
                await answer_with(send)
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            say(await asyncio.to_thread(lambda: "a thread"))
            say(await sync_to_async(lambda: "the bridge")())
            await send({"type": "lifespan.shutdown.complete"})

        call(AsgiToWsgi(thorough))
        """
    )
    assert lines == ["a thread", "the bridge"]


def test_exit_disconnects_requests_and_waits_for_them_to_end():
    lines = run(
        """
        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                return await site(scope, receive, send)
            await send(START)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await receive()
            say((await receive())["type"])
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled")

        request = Request(AsgiToWsgi(application, disconnect_timeout=0)).open()
        """
    )
    assert lines == ["startup", "http.disconnect", "cancelled", "shutdown"]


@starts_threads_at_exit
def test_a_thread_that_serves_after_the_main_thread_has_ended_is_served():
    lines = run(
        """
        def serve():
            threading.main_thread().join()
            ask()
            say("served")

        ask()
        threading.Thread(target=serve).start()
        """
    )
    assert lines in (
        ["startup", "shutdown", "startup", "served", "shutdown"],
        ["startup", "served", "shutdown"],  # if the end of the main thread cannot be detected
    )


def test_a_request_after_the_shutdown_is_answered_with_503():
    lines = run(
        """
        def at_the_very_end():
            answer = call(application)
            say(answer.status, answer.body)

        ask()
        """,
        first="import atexit; atexit.register(lambda: at_the_very_end())",
    )
    expected = "503 Service Unavailable b'The server is shutting down'"
    assert lines == ["startup", "shutdown", expected]


@needs_fork
@pytest.mark.parametrize("used", [False, True])
def test_a_forked_child_has_its_own_loop_and_lifespan(used):
    lines = run(
        f"""
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        if {used}:
            ask()
        child = os.fork()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            ask()
            say("parent ends")
        else:
            ask()
            assert len(loops) == 1 + {used}
            say("child ends")
        """
    )
    child = ["startup", "child ends", "shutdown"]
    parent = ["startup", "parent ends", "shutdown"]
    if used:
        assert lines == ["startup", *child, *parent[1:]]
    else:
        assert lines == [*child, *parent]


@needs_fork
def test_a_response_copied_by_a_fork_does_not_affect_the_parents():
    lines = run(
        """
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)
        may_end = threading.Event()

        async def application(scope, receive, send):
            await send(START)
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await asyncio.to_thread(may_end.wait)
            await send({"type": "http.response.body", "body": b"two"})

        request = Request(AsgiToWsgi(application, lifespan="off")).open()
        say(request.next().decode())
        child = os.fork()
        if not child:
            request.close()
            os._exit(0)
        os.waitpid(child, 0)
        may_end.set()
        say(request.finish().decode())
        """
    )
    assert lines == ["one", "two"]


@needs_fork
def test_forks_while_requests_run():
    lines = run(
        """
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)
        ends = threading.Event()

        def serve():
            while not ends.is_set():
                ask()

        threads = [threading.Thread(target=serve) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                ask()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ends.set()
        for thread in threads:
            thread.join()
        """
    )
    assert lines.count("startup") == 21


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_that_exits_a_waiting_worker_shuts_down():
    lines = run(
        """
        import signal

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))

        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                return await site(scope, receive, send)
            os.kill(os.getpid(), signal.SIGTERM)
            await receive()
            say((await receive())["type"])

        call(AsgiToWsgi(application))
        """,
        status=3,
    )
    assert lines == ["startup", "http.disconnect", "shutdown"]


@pytest.mark.parametrize("has_threads", [0, 1])
def test_uwsgi_is_refused_unless_it_has_threads(has_threads):
    lines = run(
        f"""
        import types

        sys.modules["uwsgi"] = types.ModuleType("uwsgi")
        sys.modules["uwsgi"].has_threads = {has_threads}
        try:
            ask()
        except RuntimeError as error:
            say(error)
        """
    )
    refusal = "AsgiToWsgi needs a thread for the event loop: start uWSGI with --enable-threads"
    assert lines == (["startup", "shutdown"] if has_threads else [refusal])


def test_gevents_green_threads_are_served_by_a_loop_on_a_real_thread():
    pytest.importorskip("gevent")
    lines = run(
        """
        meeting = []

        async def meet(scope, receive, send):
            if scope["type"] == "lifespan":
                return await site(scope, receive, send)
            if not meeting:
                meeting.append(asyncio.Barrier(20))
            await meeting[0].wait()
            await answer_with(send, await read_body(receive))

        adapted = AsgiToWsgi(meet)
        greenlets = [gevent.spawn(call, adapted, b"hello") for _ in range(20)]
        gevent.joinall(greenlets, raise_error=True)
        say({greenlet.value.body for greenlet in greenlets})
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            say(error)
        """,
        first="import gevent.monkey; gevent.monkey.patch_all()",
        warnings="ignore",
    )
    assert lines == ["startup", "{b'hello'}", "no running event loop", "shutdown"]


def test_eventlets_green_threads_are_refused():
    pytest.importorskip("eventlet")
    source = """
import eventlet
eventlet.monkey_patch()
from asgiref.wsgi import AsgiToWsgi
try:
    AsgiToWsgi(lambda *arguments: None)({"REQUEST_METHOD": "GET", "wsgi.input": None}, print)
except RuntimeError as error:
    print(error)
"""
    command = [sys.executable, "-W", "ignore", "-c", source]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert "AsgiToWsgi does not work where eventlet has patched" in result.stdout, result.stderr
