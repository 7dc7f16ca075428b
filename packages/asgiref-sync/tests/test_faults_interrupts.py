"""An exception raised in a waiting thread at any point reaches the caller."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import check_program

pytestmark = pytest.mark.timeout(180, method="thread")

posix = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")

INJECTION = Path(__file__).parent / "support" / "injection.py"
SYNCHRONOUS = [
    "top_level",
    "top_level_and_back",
    "nested",
    "forced_loop",
    "single_thread_context",
    "leftover_task",
    "while_handling",
    "iterator_of_async",
    "submitted",
]
ASYNCHRONOUS = [
    "sensitive",
    "parallel",
    "context",
    "executor",
    "limited",
    "below",
    "iterator_of_sync",
]


#: In these scenarios, a trace or profile function that raises crashes CPython 3.11 in about one run
#: of ten.
CRASH_ON_3_11 = {"limited", "submitted", "shut_down"}
#: In the others it crashes rarely. No code in Python can end a process with these signals.
CRASHES = {-signal.SIGSEGV, -signal.SIGABRT}
#: CPython 3.11 can also corrupt its stack and continue ("'traceback' object is not callable"), so
#: a fault on 3.11 counts only if it occurs in every run.
RUNS = 3 if sys.version_info < (3, 12) else 1


def inject(scenario, error, points):
    if scenario in CRASH_ON_3_11 and sys.version_info < (3, 12):
        pytest.skip("CPython 3.11 can crash when a trace function raises here")
    for _ in range(RUNS):
        result = subprocess.run(
            [sys.executable, INJECTION, scenario, error, points],
            capture_output=True,
            text=True,
            timeout=55,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if result.returncode == 0:
            return
    if result.returncode in CRASHES and sys.version_info < (3, 12):
        pytest.skip("CPython 3.11 crashed when a trace function raised")
    raise AssertionError(result.stderr[-8000:])


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SoftTimeLimit"])
@pytest.mark.parametrize("scenario", SYNCHRONOUS)
def test_an_exception_at_any_line_of_a_synchronous_call_is_raised(scenario, error):
    inject(scenario, error, "lines")


@pytest.mark.parametrize("points", ["lines", "signals"])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SoftTimeLimit"])
def test_an_executor_that_is_interrupted_anywhere_can_be_shut_down(error, points):
    inject("shut_down", error, points)


@pytest.mark.parametrize("scenario", ASYNCHRONOUS)
def test_an_interrupt_at_any_line_of_an_asynchronous_call_is_raised(scenario):
    # A loop re-raises only these from its callbacks; it logs all others.
    inject(scenario, "KeyboardInterrupt", "lines")


@pytest.mark.parametrize("scenario", SYNCHRONOUS + ASYNCHRONOUS)
def test_an_interrupt_wherever_python_checks_for_signals_is_raised(scenario):
    inject(scenario, "KeyboardInterrupt", "signals")


INTERRUPTED_CALLS = """
import random

class Interrupt({base}):
    pass

handled = raised = 0

def handler(*args):
    global handled
    handled += 1
    raise Interrupt

async def at_once(): return 1
async def turn(): await asyncio.sleep(0)
async def back(): await sync_to_async(int)()
async def parallel(): await sync_to_async(int, thread_sensitive=False)()
async def nested(): await sync_to_async(lambda: async_to_sync(turn)())()
async def stubborn():
    for _ in range(3):
        try:
            await asyncio.sleep(0.0002)
        except asyncio.CancelledError:
            pass

signal.signal(signal.SIGALRM, handler)
# The interpreter prints an exception in a finalizer; the call has nothing to raise.
printed = []
sys.unraisablehook = lambda args: issubclass(args.exc_type, Interrupt) and printed.append(1)

# A function: CPython leaves the jump at the end of a loop out of the `try` around that loop.
def call_until_interrupted(coroutine, before):
    while handled == before:
        async_to_sync(coroutine)()

dropped = []
random.seed(1)
for attempt in range(400):
    coroutine = (at_once, turn, back, parallel, nested, stubborn)[attempt % 6]
    before = handled + 0
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0015))
        call_until_interrupted(coroutine, before)
        dropped.append(coroutine.__name__)
    except Interrupt:
        raised += 1
    except RuntimeError as error:
        # CPython's Condition, interrupted while a thread starts, says "release unlocked lock".
        assert isinstance(error.__context__, Interrupt), repr(error)
        raised += 1
assert async_to_sync(turn)() is None
asyncio.run(back())
assert raised + len(printed) == handled == 400, (raised, printed, handled, dropped)
print("each one raised")
"""


@posix
@pytest.mark.parametrize("base", ["BaseException", "Exception", "KeyboardInterrupt"])
def test_an_exception_from_a_signal_handler_at_a_random_moment_reaches_the_caller(base):
    check_program(INTERRUPTED_CALLS.replace("{base}", base), output="each one raised", seconds=25)


INTERRUPTED_SUBMISSIONS = """
import random

class Interrupt({base}):
    pass

armed, raised = False, 0

def handler(*args):
    global armed
    if armed:
        armed = False
        raise Interrupt

def interrupted(function, *args):
    global armed, raised
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.000001, 0.00006))
        return function(*args)
    except Interrupt:
        raised += 1
    except RuntimeError as error:
        # CPython's Condition, interrupted while a thread starts, says "release unlocked lock".
        assert isinstance(error.__context__, Interrupt), repr(error)
        raised += 1
    finally:
        armed = False

class Submission:
    # The first step of a call submits it; the loop handles a signal at any other moment.

    def __init__(self, call):
        self.call = call

    def __await__(self):
        steps = self.call.__await__()
        waits_for = interrupted(next, steps)
        if waits_for is not None:
            yield waits_for
            yield from steps

signal.signal(signal.SIGALRM, handler)
sys.unraisablehook = lambda args: None
random.seed(1)
executor = LimitedExecutor(2)

def submit():
    for _ in range(4):
        executor.submit(int)

async def await_(executor):
    call = sync_to_async(int, thread_sensitive=False, executor=executor)
    for _ in range(3000):
        await Submission(call())
        assert await call() == 0

if "{how}" == "submit":
    for _ in range(3000):
        interrupted(submit)
        assert executor.submit(int).result() == 0
else:
    asyncio.run(await_(executor if "{how}" == "executor" else None))
assert raised, "no signal came in time"
print("all ran")
"""


@posix
@pytest.mark.parametrize("base", ["BaseException", "Exception", "KeyboardInterrupt"])
@pytest.mark.parametrize("how", ["loop", "executor", "submit"])
def test_a_call_whose_submission_is_interrupted_delays_no_later_call(how, base):
    script = INTERRUPTED_SUBMISSIONS.replace("{base}", base).replace("{how}", how)
    check_program(script, output="all ran")


INTERRUPTED_EXECUTORS = """
import random
from probes import eventually

class Interrupt({base}):
    pass

armed = False

def handler(*args):
    global armed
    if armed:
        armed = False
        raise Interrupt

def interrupted(function):
    global armed
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.000001, 0.00004))
        function()
    except Interrupt:
        pass
    except RuntimeError as error:
        assert isinstance(error.__context__, Interrupt), repr(error)
    finally:
        armed = False

signal.signal(signal.SIGALRM, handler)
sys.unraisablehook = lambda args: None
random.seed(1)

def use_while_interrupted(shut_down):
    executor = LimitedExecutor(2, name="interrupted")
    assert executor.submit(int).result() == 0
    for _ in range(20):
        interrupted(lambda: executor.submit(int))
    shut_down(executor)
"""


@posix
@pytest.mark.parametrize("base", ["BaseException", "Exception", "KeyboardInterrupt"])
def test_an_executor_whose_submissions_were_interrupted_can_be_shut_down(base):
    check_program(
        INTERRUPTED_EXECUTORS.replace("{base}", base)
        + """
for _ in range(200):
    use_while_interrupted(LimitedExecutor.shutdown)
print("ended")
os._exit(0)
""",
        output="ended",
    )


@posix
@pytest.mark.parametrize("base", ["BaseException", "Exception", "KeyboardInterrupt"])
def test_no_thread_of_an_executor_outlives_its_shutdown_after_interrupts(base):
    check_program(
        INTERRUPTED_EXECUTORS.replace("{base}", base)
        + """
def live_threads():
    return [
        one for one in threading.enumerate()
        if one.name.startswith("interrupted") and one.is_alive()
    ]

for _ in range(200):
    use_while_interrupted(LimitedExecutor.shutdown)
assert eventually(lambda: not live_threads(), seconds=5), live_threads()
print("ended")
""",
        output="ended",
    )


@posix
def test_each_ctrl_c_is_raised_while_short_coroutines_are_called():
    check_program(
        """
        async def work():
            return 1
        call = async_to_sync(work)
        call()

        def call_for_a_while():
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                call()

        signal.signal(signal.SIGALRM, lambda *args: signal.raise_signal(signal.SIGINT))
        for attempt in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                call_for_a_while()
                print("dropped")
                break
            except KeyboardInterrupt:
                pass
        print("done")
        """,
        output="done",
        seconds=25,
    )


@posix
def test_a_second_interrupt_ends_the_wait_for_a_coroutine_that_does_not_end():
    check_program(
        """
        async def stubborn():
            interrupt()
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    interrupt()

        def interrupt():
            os.kill(os.getpid(), signal.SIGINT)

        try:
            async_to_sync(stubborn)()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        os._exit(0)
        """,
        output="interrupted",
    )


@posix
def test_an_interrupt_in_a_sensitive_function_is_raised_in_the_waiting_thread():
    check_program(
        """
        signal.signal(signal.SIGALRM, lambda *args: (_ for _ in ()).throw(TimeoutError("alarm")))

        def work():
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            threading.Event().wait(10)

        async def main():
            await sync_to_async(work)()

        for _ in range(3):
            try:
                async_to_sync(main)()
            except TimeoutError as error:
                print(error)
        """,
        output="alarm alarm alarm",
    )


@posix
def test_an_interrupted_call_does_not_affect_the_next_ones():
    """The cancellation of the first coroutine is never delivered to the next one."""
    check_program(
        """
        signal.signal(signal.SIGALRM, signal.default_int_handler)

        async def work():
            for _ in range(20):
                await asyncio.sleep(0)
            await sync_to_async(int)()
            return "whole"

        def work_until_interrupted():
            while True:
                assert async_to_sync(work)() == "whole"

        interrupts = 0
        for attempt in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + attempt * 0.00001)
                work_until_interrupted()
            except KeyboardInterrupt:
                interrupts += 1
            for _ in range(3):
                assert async_to_sync(work)() == "whole"
        print(interrupts)
        """,
        output="150",
    )


@posix
def test_a_loop_whose_call_is_interrupted_before_it_runs_ends():
    check_program(
        """
        loops, interrupted = [], threading.Event()
        class Late(asyncio.SelectorEventLoop):
            def run_forever(self):
                if not loops:
                    loops.append(self)
                    os.kill(os.getpid(), signal.SIGINT)
                    interrupted.wait(10)
                super().run_forever()
        asyncio.new_event_loop = Late
        async def work():
            raise AssertionError("started")
        try:
            async_to_sync(work)()
        except KeyboardInterrupt:
            interrupted.set()
        deadline = time.monotonic() + 5
        while not loops[0].is_closed() and time.monotonic() < deadline:
            time.sleep(0.001)
        print("closed" if loops[0].is_closed() else "runs on")
        os._exit(0)
        """,
        output="closed",
    )
