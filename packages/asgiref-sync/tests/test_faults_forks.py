"""A forked child can make calls of all kinds, after every kind of work and fork of its parent."""

import os
import sys
import textwrap

import loops
import pytest
from programs import check_program, run_program

pytestmark = [
    pytest.mark.timeout(40, method="thread"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

PREPARE = """
import contextlib, contextvars, ctypes, faulthandler, time, warnings
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

# The watchdog of faulthandler is a thread, and the child has none of the parent's.
faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)

def fork_in_c():
    # If a thread waits for the interpreter's lock at the moment of the fork, the lock is broken in
    # the child. No event tells when all threads wait elsewhere, so give them time.
    time.sleep(0.1)
    return ctypes.PyDLL(None).fork()

FORKS = {"os.fork": os.fork, "fork in C": fork_in_c}
fork = FORKS[{how!r}]

async def turn():
    await asyncio.sleep(0)
    return threading.get_ident()

async def all_kinds():
    assert await sync_to_async(int)("1") == 1
    call = sync_to_async(int, thread_sensitive=False)
    assert await asyncio.gather(*(call(n) for n in range(40))) == list(range(40))
    async with ThreadSensitiveContext():
        assert await sync_to_async(int)("2") == 2
    assert await sync_to_async(async_to_sync(turn))()
    async for item in sync_to_async_iterator([1]):
        assert item == 1

def use():
    assert async_to_sync(turn)() != threading.get_ident()
    async_to_sync(all_kinds)()
    in_thread(asyncio.run, all_kinds())
    with AsyncSingleThreadContext():
        assert async_to_sync(turn)() == async_to_sync(turn)()

def in_thread(function, *args):
    errors = []
    def work():
        try: function(*args)
        except BaseException as error: errors.append(error)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for error in errors:
        raise error

def in_child(function=use):
    # A fork in C under load can still meet a thread that waits for the interpreter's lock.
    attempts = 3 if fork is fork_in_c else 1
    assert any(_succeeds_in_child(function) for _ in range(attempts))

def _succeeds_in_child(function):
    pid = fork()
    if pid == 0:
        signal.alarm(6)
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0

async def without_a_loop(function=use):
    # The child of a thread that has no loop, like the children of pre-fork servers.
    await sync_to_async(function)()
"""

#: The states in which the parent forks.
STATES = {
    "first use": """
        in_child()
    """,
    "idle": """
        use()
        in_child()
        use()
        in_child(lambda: in_child())
    """,
    "sensitive function": """
        async def main():
            await sync_to_async(in_child)()
            await sync_to_async(int)()
        asyncio.run(main())
        async_to_sync(main)()
    """,
    "parallel function": """
        async def main():
            await sync_to_async(in_child, thread_sensitive=False)()
            await sync_to_async(int, thread_sensitive=False)()
        asyncio.run(main())
        async_to_sync(main)()
    """,
    "context": """
        async def main():
            async with ThreadSensitiveContext():
                await sync_to_async(int)()
                await sync_to_async(in_child)()
                await sync_to_async(int)()
        asyncio.run(main())
        async_to_sync(main)()
    """,
    "single thread context": """
        with AsyncSingleThreadContext() as block:
            async_to_sync(turn)()
            in_child()
            in_child(lambda: (block.__exit__(None, None, None), use()))
            async_to_sync(turn)()
    """,
    "the loop of a single thread context starts": """
        starting, go_on = threading.Event(), threading.Event()
        def new_loop():
            starting.set()
            go_on.wait()
            return asyncio.SelectorEventLoop()
        def call():
            set_loop_factory(None)
            assert async_to_sync(turn)() == async_to_sync(turn)()
        with AsyncSingleThreadContext():
            set_loop_factory(new_loop)
            copied = contextvars.copy_context()
            thread = threading.Thread(target=copied.run, args=(async_to_sync(turn),))
            thread.start()
            assert starting.wait(10)
            in_child(call)
            go_on.set()
            thread.join()
            call()
    """,
    "half-consumed iterator": """
        async def numbers():
            for number in range(3):
                yield number
        def go_on():
            with contextlib.suppress(RuntimeError, StopIteration):
                next(iterator)
            use()
        def close():
            with contextlib.suppress(RuntimeError):
                iterator.close()
            use()
        iterator = async_to_sync_iterator(numbers())
        next(iterator)
        in_child(go_on)
        in_child(close)
        assert list(iterator) == [1, 2]
    """,
    "coroutine": """
        async def main():
            # The child of a coroutine is still inside the parent's loop, so it uses a new thread.
            in_child(lambda: in_thread(use))
            await all_kinds()
        asyncio.run(main())
        async_to_sync(main)()
    """,
    "other threads run calls": """
        stop = threading.Event()
        def work():
            while not stop.is_set():
                use()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for _ in range(8): in_child()
        stop.set()
        for thread in threads: thread.join()
    """,
    "calls wait in the queues": """
        release = threading.Event()
        async def main():
            calls = [sync_to_async(release.wait, thread_sensitive=n % 2)() for n in range(80)]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await asyncio.sleep(0.01)
            await asyncio.to_thread(in_child)
            release.set()
            await asyncio.gather(*tasks)
        asyncio.run(main())
    """,
}


#: The states in which another thread is running code when the process forks.
OTHER_THREADS_RUN = {
    "sensitive function",
    "parallel function",
    "other threads run calls",
    "calls wait in the queues",
}


@pytest.mark.parametrize("how", ["os.fork", "fork in C"])
@pytest.mark.parametrize("state", STATES)
def test_the_child_makes_calls_of_all_kinds(state, how):
    if how == "fork in C" and state in OTHER_THREADS_RUN:
        pytest.skip("another thread may wait for CPython's own lock, which only its hooks reset")
    script = (
        PREPARE.replace("{how!r}", repr(how))
        + textwrap.dedent(STATES[state])
        + "\nprint('done')\nos._exit(0)"
    )
    check_program(script, output="done", seconds=20)


IDLE = {
    "async_to_sync": "async_to_sync(turn)()",
    "sync_to_async": "asyncio.run(sync_to_async(int)())",
    "context": "asyncio.run(in_context())",
    "single thread context": "in_single_thread()",
    "there and back": "async_to_sync(sync_to_async(int))()",
}

#: Calls that keep a thread, as in asgiref 3.13: all thread-sensitive functions share that thread.
KEEPS_A_THREAD = {"sync_to_async"}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the warning is new in 3.12")
@pytest.mark.parametrize("what", [name for name in IDLE if name not in KEEPS_A_THREAD])
def test_a_fork_between_calls_finds_no_threads_of_the_bridge(what):
    result = run_program(
        f"""
import warnings
async def turn():
    await asyncio.sleep(0)
async def in_context():
    async with ThreadSensitiveContext():
        await sync_to_async(int)()
def in_single_thread():
    with AsyncSingleThreadContext():
        async_to_sync(turn)()
{IDLE[what]}
# Python counts the threads of the operating system. Two of them may still be ending: the watchdog
# of this program, which is not a Python thread, and the thread of the bridge.
_faulthandler.cancel_dump_traceback_later()
def number_of_threads():
    tasks = "/proc/self/task"
    return len(os.listdir(tasks)) if os.path.isdir(tasks) else threading.active_count()
deadline = time.monotonic() + 0.3
while number_of_threads() > 1 and time.monotonic() < deadline:
    time.sleep(0.001)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    if os.fork() == 0:
        os._exit(0)
print([str(one.message) for one in seen])
os._exit(0)
"""
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the warning is new in 3.12")
def test_a_fork_right_after_a_call_does_not_warn_about_threads():
    """When the caller has the result, the thread that ran the function may not be idle yet."""
    check_program(
        """
import warnings
async def parallel():
    call = sync_to_async(int, thread_sensitive=False)
    await asyncio.gather(*(call() for _ in range(5)))
_faulthandler.cancel_dump_traceback_later()  # Python counts its thread as well
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(30):
        for call in (async_to_sync(parallel), lambda: asyncio.run(parallel())):
            call()
            if os.fork() == 0:
                os._exit(0)
            os.wait()
print(len(seen))
os._exit(0)
""",
        output="0",
    )


def test_a_fork_does_not_wait_for_a_lock_that_the_forking_thread_holds():
    """An idle thread ends before a fork, and destructors of its `threading.local` values run."""
    check_program(
        """
import warnings
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
lock, local = threading.Lock(), threading.local()
class Connection:
    def __del__(self):
        with lock:
            pass
def connect():
    local.connection = Connection()
asyncio.run(sync_to_async(connect, thread_sensitive=False)())
with lock:
    if os.fork() == 0:
        os._exit(0)
    os.wait()
print("forked", flush=True)
os._exit(0)
""",
        output="forked",
    )


#: A call during which the process forks and from which both processes return. `finish` then ends
#: the child.
FORKED_DURING = {
    "a function of the blocked thread": """
try:
    async_to_sync(sync_to_async(fork))()
except RuntimeError:
    assert os.getpid() != parent  # the loop that would end the call is not in the child
finish()
""",
    "a function of a worker thread": """
class Executor:
    def submit(self, call):
        threading.Thread(target=lambda: (call(), finish())).start()
asyncio.run(sync_to_async(fork, thread_sensitive=False, executor=Executor())())
""",
}


@pytest.mark.skipif(loops.CHOICE == "uvloop", reason="uvloop itself writes to its descriptors")
@pytest.mark.parametrize("during", FORKED_DURING)
def test_a_child_never_writes_to_a_file_that_reused_its_parents_descriptor(during, tmp_path):
    """A function may turn its process into a daemon, which closes every descriptor."""
    check_program(
        f"""
import warnings
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
parent = os.getpid()
def fork():
    if os.fork():
        assert os.wait()[1] == 0
        return
    os.closerange(3, 256)
    for number in range(30):
        os.open(os.path.join({str(tmp_path)!r}, str(number)), os.O_RDWR | os.O_CREAT)
def finish():
    if os.getpid() != parent:
        os._exit(0)
{FORKED_DURING[during]}
print("returned", flush=True)
os._exit(0)
""",
        output="returned",
    )
    assert len(list(tmp_path.iterdir())) == 30
    assert [file.name for file in tmp_path.iterdir() if file.stat().st_size] == []
