"""Raise an exception at each point of the bridge that the calling thread reaches, one at a time.

This program's arguments are the names of a scenario, an exception class, and a kind of point
("lines" or "signals"). It runs the scenario with an exception at the first point (or at the point
whose number is the fourth argument), then at the next, until a run ends without one. Exit status 0
means that the exception reached the caller each time, no call hung, and no resource leaked.
"""

import ast
import asyncio
import contextlib
import faulthandler
import functools
import gc
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import loops  # noqa: F401 - chooses the event loops before any is created
from probes import Resources, assert_all_works, assert_no_more_than, double

import asgiref.sync
from asgiref.sync import (
    AsyncSingleThreadContext,
    LimitedExecutor,
    ThreadSensitiveContext,
    async_to_sync,
    async_to_sync_iterator,
    sync_to_async,
    sync_to_async_iterator,
)

PACKAGE = str(Path(asgiref.sync.__file__).parent)


class SoftTimeLimit(Exception):
    """The exception that a task queue raises in a signal handler."""


class Life:
    """The numbers of coroutines that have started and ended."""

    started = ended = 0


async def tracked(number):
    Life.started += 1
    try:
        await asyncio.sleep(0)
        return number
    finally:
        Life.ended += 1


async def at_once():
    return 1


def top_level():
    assert async_to_sync(at_once)() == 1
    assert async_to_sync(tracked)(1) == 1


def top_level_and_back():
    async def main():
        assert await sync_to_async(int)("1") == 1
        assert await sync_to_async(int, thread_sensitive=False)("1") == 1

    async_to_sync(main)()


def nested():
    async def main():
        return await sync_to_async(lambda: async_to_sync(tracked)(1))()

    assert async_to_sync(main)() == 1


def forced_loop():
    async def main():
        return await sync_to_async(lambda: async_to_sync(tracked, force_new_loop=True)(1))()

    assert async_to_sync(main)() == 1


def single_thread_context():
    with AsyncSingleThreadContext():
        assert async_to_sync(tracked)(1) == 1
        assert async_to_sync(double)(1) == 2


def leftover_task():
    async def main():
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        await asyncio.sleep(0)

    tasks = []
    async_to_sync(main)()
    assert tasks[0].cancelled()


def while_handling():
    try:
        raise ValueError
    except ValueError:
        assert async_to_sync(tracked)(1) == 1


def iterator_of_async():
    async def numbers():
        for number in range(3):
            yield number

    # If the reference count closed it, the interpreter would print an exception and continue.
    with contextlib.closing(async_to_sync_iterator(numbers())) as iterator:
        assert next(iterator) == 0


def submitted():
    assert LIMITED.submit(int, "1").result() == 1


def shut_down():
    with LimitedExecutor(2) as executor:
        for _ in range(2):  # the second one finds an idle thread
            assert executor.submit(int, "1").result() == 1


def sensitive():
    asyncio.run(sync_to_async(int)("1"))


def parallel():
    async def main():
        call = sync_to_async(int, thread_sensitive=False)
        assert await asyncio.gather(call("1"), call("2")) == [1, 2]

    asyncio.run(main())


def context():
    async def main():
        async with ThreadSensitiveContext():
            assert await sync_to_async(int)("1") == 1

    asyncio.run(main())


def executor():
    asyncio.run(sync_to_async(int, thread_sensitive=False, executor=EXECUTOR)("1"))


def limited():
    async def main():
        call = sync_to_async(int, thread_sensitive=False, executor=LIMITED)
        assert await asyncio.gather(call("1"), call("2")) == [1, 2]

    asyncio.run(main())


def below():
    asyncio.run(sync_to_async(async_to_sync(tracked))(1))


def iterator_of_sync():
    async def main():
        async for number in sync_to_async_iterator(iter(range(3)), batch=2):
            assert number < 3

    asyncio.run(main())


#: Each with the exceptions to raise: a loop re-raises only these two from its callbacks.
SYNCHRONOUS = [
    top_level,
    top_level_and_back,
    nested,
    forced_loop,
    single_thread_context,
    leftover_task,
    while_handling,
    iterator_of_async,
    submitted,
    shut_down,
]
ASYNCHRONOUS = [sensitive, parallel, context, executor, limited, below, iterator_of_sync]
SCENARIOS = {scenario.__name__: scenario for scenario in SYNCHRONOUS + ASYNCHRONOUS}


class Injection:
    """Raises `error` in this thread, at the point with this number."""

    def __init__(self, number, error):
        self.first = self.number = number
        self.error = error
        self.place = None

    def _is_here(self, frame):
        """Count this point; return whether the exception belongs here."""
        if self.place is not None:
            return False
        self.number -= 1
        if self.number:
            return False
        self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        return True

    def run(self, scenario):
        """Return the exception that the scenario raised, if any."""
        self._watch()
        try:
            scenario()
        except BaseException as error:
            return error
        finally:
            self._stop()
        return None


class AtLines(Injection):
    """Counts each line as a point."""

    def _watch(self):
        self._before = {}
        sys.settrace(self._enter)

    def _stop(self):
        sys.settrace(None)

    def _enter(self, frame, event, arg):
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame, event, arg):
        if event == "return":
            self._before.pop(frame, None)
        if event != "line":
            return self._line
        before, self._before[frame] = self._before.get(frame), frame.f_lineno
        if _is_cleaning_up(frame, before) or not self._is_here(frame):
            return self._line
        self._stop()
        raise self.error


class AtSignals(Injection):
    """Counts the points where CPython checks for signals: on entering a function, after a call.

    (CPython also checks at the end of each turn of a loop, which no event shows.)
    """

    def _watch(self):
        sys.setprofile(self._event)

    def _stop(self):
        sys.setprofile(None)

    def _event(self, frame, event, arg):
        if event not in ("call", "c_return") or getattr(arg, "__name__", None) == "__enter__":
            # 3.14 checks for signals between `__enter__` and the body of a `with`. An exception at
            # that point leaves the lock locked, and no Python code can prevent that.
            return
        if frame.f_code.co_filename.startswith(PACKAGE) and self._is_here(frame):
            self._stop()
            raise self.error


def _is_cleaning_up(frame, before):
    """Whether CPython never handles a signal before this line, so no exception belongs there.

    The interpreter does not check for signals between the body of a `with` and its `__exit__`, nor
    between the end of a `try` and the first call of its `finally`.
    """
    bodies, finals = _blocks(frame.f_code.co_filename)
    line = frame.f_lineno
    return line in finals or any(line == first <= (before or 0) <= last for first, last in bodies)


@functools.cache
def _blocks(path):
    """Return the lines of each `with`, and the first line of each `finally`."""
    tree = ast.parse(Path(path).read_text("utf-8"))
    nodes = list(ast.walk(tree))
    bodies = [
        (node.lineno, node.end_lineno)
        for node in nodes
        if isinstance(node, (ast.With, ast.AsyncWith))
    ]
    finals = {node.finalbody[0].lineno for node in nodes if getattr(node, "finalbody", None)}
    return bodies, finals


for _path in Path(PACKAGE).glob("*.py"):
    _blocks(str(_path))  # not while tracing, because the parser of 3.11 then miscounts its depth


class Watchdog:
    """Ends the program and prints all stacks if an injection takes too long."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.at = None
        self._fed = time.monotonic()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def feed(self, at):
        self.at, self._fed = at, time.monotonic()

    def _watch(self):
        while time.monotonic() < self._fed + self.seconds:
            time.sleep(0.2)
        at = self.at
        if isinstance(at, Injection):
            at = f"{at.error!r} at point {at.first}, {at.place}"
        print(f"hangs after {at}", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(2)


def problems_of(scenario, make_injection, error_class, watchdog, first):
    """Yield the faults after an exception of this class at each point from `first` on."""
    printed = []
    # Without the traceback, whose frames would keep the finalizer's object alive.
    sys.unraisablehook = lambda args: printed.append(args.exc_value.with_traceback(None))
    number = first - 1
    while True:
        number += 1
        injection = make_injection(number, error_class("injected"))
        watchdog.feed(injection)
        result = injection.run(scenario)
        if injection.place is None:
            if result is not None:
                yield f"the call fails without an injection: {result!r}"
            return
        # The interpreter prints a finalizer's exception and continues.
        if result is not injection.error and injection.error not in printed:
            yield f"{error_class.__name__} at {injection.place}: the caller gets {result!r}"
        del result
        try:
            assert async_to_sync(double)(1) == 2
            scenario()
        except BaseException as error:
            yield f"{error_class.__name__} at {injection.place}: the next call raises {error!r}"


def main(name, class_name, points="lines", first="1"):
    scenario = SCENARIOS[name]
    error_class = {"KeyboardInterrupt": KeyboardInterrupt, "SoftTimeLimit": SoftTimeLimit}[
        class_name
    ]
    watchdog = Watchdog(8)
    for _ in range(3):
        assert_all_works()
        scenario()
    before = Resources.now()
    make_injection = {"lines": AtLines, "signals": AtSignals}[points]
    found = list(problems_of(scenario, make_injection, error_class, watchdog, int(first)))
    watchdog.feed("the end")
    try:
        assert_all_works()
        # An exception raised just as main_wrap suspends leaves the coroutine to the garbage
        # collector.
        gc.collect()
        assert Life.started == Life.ended, "a coroutine that was started has not ended"
        assert_no_more_than(before, spare=4)
    except BaseException as error:
        found.append(f"after all injections: {error!r}")
    for problem in found[:20]:
        print(problem, file=sys.stderr)
    print(len(found), "problems", flush=True)
    os._exit(bool(found))


if __name__ == "__main__":
    with ThreadPoolExecutor(1) as EXECUTOR, LimitedExecutor(2) as LIMITED:
        main(*sys.argv[1:])
