"""Servers whose event loop ends without cancelling its requests: the process still exits."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.timeout(60)

SITE = """
import asyncio, faulthandler, logging, threading
from asgiref.wsgi import WsgiToAsgi

faulthandler.dump_traceback_later(20, exit=True)
logging.disable()  # asyncio reports the tasks that were never finished
is_ready = threading.Event()
has_ended = threading.Event()
tasks = []

async def receive_all():
    return {"type": "http.request"}

async def receive_part():
    if not parts:
        is_ready.set()
        await asyncio.Future()
    return {"type": "http.request", "body": parts.pop(), "more_body": True}

async def send_never(event):
    is_ready.set()
    await asyncio.Future()

async def send_all(event):
    pass

def scope(**more):
    headers = [(b"content-length", b"10")] if more else []
    return {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}

parts = [b"12345"]

def application(environ, start_response):
    environ["write"] = start_response("200 OK", [])
    try:
        yield from body(environ)
    except OSError:
        print("OSError", flush=True)
        raise
    finally:
        print("closed\\n", end="", flush=True)  # one piece, because two threads may print
        has_ended.set()

"""

#: The application's body, the server's side of the call, and the output of the program.
WAITS = {
    "a response that the server does not send": (
        """
        def body(environ):
            while True:
                yield bytes(65536)
        """,
        "scope(), receive_all, send_never",
        "closed",
    ),
    "a call to write": (
        """
        def body(environ):
            while True:
                environ["write"](bytes(65536))
            yield
        """,
        "scope(), receive_all, send_never",
        "OSError closed",
    ),
    "a request body that does not arrive": (
        """
        def body(environ):
            yield environ["wsgi.input"].read(10)
        """,
        "scope(length=10), receive_part, send_all",
        "OSError closed",
    ),
    "a stream of small events": (
        """
        def body(environ):
            while True:
                yield b"data: 1\\n\\n"
        """,
        "scope(), receive_all, send_never",
        "closed",
    ),
    "an application that asks whether the client is connected": (
        """
        def body(environ):
            is_ready.set()
            while environ["asgiref.client_connected"]():
                pass
            yield b"gone"
        """,
        "scope(), receive_all, send_never",
        "closed",
    ),
}

ENDINGS = {
    "closed loop in a process that goes on": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        has_ended.wait()
        """,
    "stopped loop": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        """,
    "loop that another thread stops after the main thread has ended": """
        exiting = threading.Event()
        threading._register_atexit(exiting.set)
        async def until_exit():
            await main()
            while not exiting.is_set():
                await asyncio.sleep(0)
        loop = asyncio.new_event_loop()
        threading.Thread(target=lambda: loop.run_until_complete(until_exit())).start()
        is_ready.wait()
        """,
}

MAIN = """
async def main():
    tasks.append(asyncio.ensure_future(adapter({call})))
    while not is_ready.is_set():
        await asyncio.sleep(0)
"""


def run(*sources):
    code = "\n".join([SITE, *map(textwrap.dedent, sources)])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=list(ENDINGS))
@pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))
def test_the_process_exits_and_the_application_stops_as_for_a_lost_client(wait, ending):
    body, call, output = wait
    done = run(body, "adapter = WsgiToAsgi(application)", MAIN.format(call=call), ending)
    assert (done.returncode, done.stdout.split()) == (0, output.split()), done.stderr


@pytest.mark.parametrize(
    "options", ["workers=1", "thread_sensitive=True", "executor=ThreadPoolExecutor()"]
)
def test_the_process_exits_whichever_threads_run_the_application(options):
    body, call, output = WAITS["a call to write"]
    adapter = f"""
        from concurrent.futures import ThreadPoolExecutor
        adapter = WsgiToAsgi(application, {options})
        """
    done = run(body, adapter, MAIN.format(call=call), ENDINGS["stopped loop"])
    assert (done.returncode, done.stdout.split()) == (0, output.split()), done.stderr


def test_a_request_that_starts_while_the_process_exits_does_not_keep_it_from_ending():
    """No thread can start any more, so the application runs on the event loop's thread."""
    body, call, output = WAITS["a call to write"]
    done = run(
        body,
        "adapter = WsgiToAsgi(application)",
        f"""
        exiting = threading.Event()
        threading._register_atexit(exiting.set)
        def serve():
            exiting.wait()
            main_thread.join()
            asyncio.run(asyncio.wait_for(adapter({call}), 0.1))
        main_thread = threading.main_thread()
        threading.Thread(target=serve).start()
        """,
    )
    assert done.stdout.split() == output.split(), done.stderr


def test_the_error_names_the_closed_loop():
    done = run(
        """
        def application(environ, start_response):
            write = start_response("200 OK", [])
            try:
                while True:
                    write(bytes(65536))
            except OSError as error:
                print(error, flush=True)
            return []
        adapter = WsgiToAsgi(application)
        """,
        MAIN.format(call="scope(), receive_all, send_never"),
        """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    message = "the event loop of the request cannot run: it is closed, or the process is exiting"
    assert done.stdout == f"{message}\n", done.stderr


def test_requests_that_will_never_start_keep_no_thread_from_finishing():
    """Two requests lend their tokens to two queued ones, whose loop no longer runs."""
    done = run(
        """
        def body(environ):
            running.release()
            go.wait()
            while True:
                yield bytes(65536)
        running, go = threading.Semaphore(0), threading.Event()
        adapter = WsgiToAsgi(application, workers=2)
        async def main():
            for _ in range(4):
                tasks.append(asyncio.ensure_future(adapter(scope(), receive_all, send_never)))
            for _ in range(2):
                while not running.acquire(blocking=False):
                    await asyncio.sleep(0)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        go.set()
        """
    )
    assert (done.returncode, done.stdout.split()) == (0, ["closed", "closed"]), done.stderr


def test_a_loop_that_outlives_the_main_thread_finishes_its_requests():
    done = run(
        """
        def body(environ):
            is_ready.set()
            exiting.wait()
            for _ in range(100):
                yield bytes(65536)
        adapter = WsgiToAsgi(application)
        exiting = threading.Event()
        threading._register_atexit(exiting.set)
        sizes = []
        async def send(event):
            sizes.append(len(event.get("body", b"")))
            await asyncio.sleep(0)
        def serve():
            asyncio.run(adapter(scope(), receive_all, send))
            print(sum(sizes) == 100 * 65536, flush=True)
        threading.Thread(target=serve).start()
        is_ready.wait()
        """
    )
    assert (done.returncode, done.stdout) == (0, "closed\nTrue\n"), done.stderr
