"""Calls during interpreter shutdown end in time, with their result or with an error."""

import textwrap

import pytest
from programs import check_program

pytestmark = pytest.mark.timeout(40, method="thread")

CALLS = {
    "async_to_sync": "async_to_sync(asyncio.sleep)(0)",
    "both ways": "async_to_sync(both_ways)()",
    "sync_to_async": "asyncio.run(both_ways())",
    "iterator": "list(async_to_sync_iterator(numbers()))",
    "single thread": "in_single_thread()",
}

PREPARE = """
import atexit, gc, warnings, weakref, contextlib
warnings.simplefilter("ignore")

async def both_ways():
    await sync_to_async(int)()
    await sync_to_async(int, thread_sensitive=False)()
    async with ThreadSensitiveContext():
        await sync_to_async(int)()

async def numbers():
    yield 1

def in_single_thread():
    with AsyncSingleThreadContext():
        async_to_sync(both_ways)()
"""

#: The ways in which a call happens during interpreter shutdown.
MOMENTS = {
    "finalizer of a global": """
        class Client:
            def __del__(self):
                call()
        client = Client()
    """,
    "finalizer in a cycle": """
        class Client:
            def __del__(self):
                call()
        client = Client()
        client.itself = client
        gc.disable()
    """,
    "weakref.finalize": """
        class Client:
            pass
        client = Client()
        weakref.finalize(client, call).atexit = {atexit}
    """,
    "generator": """
        def generator():
            try:
                yield
            finally:
                call()
        client = generator()
        next(client)
    """,
    "daemon thread": """
        started = threading.Event()
        def work():
            while True:
                call()
                started.set()
        threading.Thread(target=work, daemon=True).start()
        started.wait(10)
    """,
    "thread-local of a daemon thread": """
        class Client:
            def __del__(self):
                call()
        local, started = threading.local(), threading.Event()
        def work():
            local.client = Client()
            started.set()
            threading.Event().wait()
        threading.Thread(target=work, daemon=True).start()
        started.wait(10)
    """,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("moment", MOMENTS, ids=list(MOMENTS))
def test_a_call_during_shutdown_does_not_hang(moment, call):
    used_before = "\n".join(CALLS.values())
    script = textwrap.dedent(MOMENTS[moment].replace("{atexit}", "False"))
    check_program(
        f"{PREPARE}\ndef call():\n    {call}\n{used_before}\n{script}\nprint('end')",
        output="end",
        seconds=8,
    )


@pytest.mark.parametrize("moment", ["finalizer of a global", "generator", "daemon thread"])
def test_the_first_call_of_the_process_during_shutdown_does_not_hang(moment):
    script = textwrap.dedent(MOMENTS[moment])
    check_program(
        f"{PREPARE}\ndef call():\n    {CALLS['both ways']}\n{script}\nprint('end')",
        output="end",
        seconds=8,
    )


@pytest.mark.parametrize("before", ["", "\n".join(CALLS.values())], ids=["first", "used before"])
def test_calls_work_in_atexit_functions(before):
    check_program(
        f"""{PREPARE}
{before}
def last():
    {"; ".join(CALLS.values())}
    print("worked")
atexit.register(last)
""",
        output="worked",
    )


def test_calls_work_in_a_thread_that_outlives_the_main_thread():
    check_program(
        f"""{PREPARE}
def work():
    threading.main_thread().join()
    for _ in range(3):
        async_to_sync(both_ways)()
        asyncio.run(both_ways())
    print("worked")
threading.Thread(target=work).start()
""",
        output="worked",
    )


def test_a_loop_that_is_left_open_with_running_calls_does_not_delay_the_exit():
    check_program(
        f"""{PREPARE}
release = threading.Event()
loop = asyncio.new_event_loop()
async def main():
    tasks = [
        asyncio.ensure_future(sync_to_async(release.wait, thread_sensitive=flag)(20))
        for flag in (True, False)
    ]
    await asyncio.sleep(0.01)
    return tasks
tasks = loop.run_until_complete(main())
release.set()
print("end")
""",
        output="end",
    )


@pytest.mark.parametrize("executor", ["LimitedExecutor(4)", "SyncToAsync.single_thread_executor"])
def test_a_function_submitted_just_before_the_exit_runs(executor):
    """An agent that wraps `Thread.run` may delay the thread until the exit waits for it."""
    check_program(
        f"""
        from probes import eventually
        run = threading.Thread.run
        main_thread = threading.get_ident()

        def exit_waits():
            frame = sys._current_frames().get(main_thread)
            while frame is not None and frame.f_code.co_name != "join":
                frame = frame.f_back
            return frame is not None

        def run_late(thread):
            eventually(exit_waits)
            run(thread)

        threading.Thread.run = run_late
        executor = {executor}
        for number in range(4):
            executor.submit(os.write, 1, b"ran ")
        """,
        output="ran ran ran ran",
    )


def test_an_iterator_and_contexts_that_are_left_open_do_not_delay_the_exit():
    check_program(
        f"""{PREPARE}
async def endless():
    while True:
        yield 1
        await asyncio.sleep(0)
iterator = async_to_sync_iterator(endless())
next(iterator)
block = AsyncSingleThreadContext()
block.__enter__()
in_single_thread()
context = ThreadSensitiveContext()
async def enter():
    await context.__aenter__()
    await sync_to_async(int)()
asyncio.run(enter())
print("end")
""",
        output="end",
    )


def test_sys_exit_in_a_sensitive_function_ends_the_process():
    check_program(
        f"""{PREPARE}
async def main():
    await sync_to_async(sys.exit)(7)
async_to_sync(main)()
""",
        output="",
        status=7,
    )


def test_a_thread_that_calls_all_the_time_does_not_keep_the_process_from_ending():
    check_program(
        f"""{PREPARE}
started = threading.Barrier(5)
def work():
    started.wait(10)
    while True:
        try:
            async_to_sync(both_ways)()
        except RuntimeError:
            pass
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
started.wait(10)
time.sleep(0.05)
print("end")
""",
        output="end",
    )
