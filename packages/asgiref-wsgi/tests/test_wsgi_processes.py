"""A WSGI application behind the adapter, in a process that forks."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

SITE = """
import asyncio, faulthandler, os, warnings
from asgiref.wsgi import WsgiToAsgi

faulthandler.dump_traceback_later(20, exit=True)
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads

async def ask(adapter):
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(event):
        sent.append(event.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await adapter(scope, receive, send)
    return b"".join(sent)

def fork(work):
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(body):
    code = SITE + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("options", ["", "workers=1", "workers=2", "thread_sensitive=True"])
def test_a_forked_child_serves_requests_after_its_parent_has(options):
    output = run(
        f"""
        def hello(environ, start_response):
            start_response("200 OK", [])
            return [b"hello"]

        adapter = WsgiToAsgi(hello, {options})

        def serve():
            assert asyncio.run(ask(adapter)) == b"hello"

        serve()
        print(fork(serve))
        serve()
        """
    )
    assert output == "0"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_child_that_is_forked_while_all_workers_are_busy_serves_requests(workers):
    output = run(
        f"""
        import threading

        busy = threading.Barrier({workers})
        parent = os.getpid()

        def application(environ, start_response):
            start_response("200 OK", [])
            if os.getpid() == parent:
                if busy.wait() == 0:
                    print(fork(serve))
                busy.wait()
            return [b"hello"]

        adapter = WsgiToAsgi(application, workers={workers})

        async def ask_all():
            return await asyncio.gather(*[ask(adapter) for _ in range({workers})])

        def serve():
            # In a new thread: this one belongs to the parent's request.
            thread = threading.Thread(target=lambda: answers.extend(asyncio.run(ask_all())))
            thread.start()
            thread.join()
            assert answers == [b"hello"] * {workers}

        answers = []
        assert asyncio.run(ask_all()) == [b"hello"] * {workers}
        """
    )
    assert output == "0"
