"""Values of a `Local` follow calls through `asgiref.sync` in both directions.

Under CPython 3.14 or newer, this file also runs itself with threads that inherit contexts.
"""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))
NAMES = ("user", "language", "session")


class Value:
    """An object that supports weak references."""


def snapshot(local: Local) -> dict[str, object]:
    return {name: getattr(local, name) for name in NAMES if hasattr(local, name)}


def change(local: Local) -> None:
    assert snapshot(local) == {"user": "ada", "language": "en"}
    local.user = "grace"
    del local.language
    local.session = 1


CHANGED = {"user": "grace", "session": 1}


@pytest.fixture
def local() -> Local:
    return Local()


def log_in(local: Local) -> None:
    local.user = "ada"
    local.language = "en"


def test_values_reach_async_code_from_sync_code_and_changes_propagate_back(local: Local) -> None:
    log_in(local)

    async def callee() -> None:
        change(local)

    async_to_sync(callee)()
    assert snapshot(local) == CHANGED


@pytest.mark.asyncio
@pytest.mark.parametrize("thread_sensitive", [True, False])
async def test_values_reach_sync_code_from_async_code_and_changes_propagate_back(
    local: Local, thread_sensitive: bool
) -> None:
    log_in(local)
    await sync_to_async(change, thread_sensitive=thread_sensitive)(local)
    assert snapshot(local) == CHANGED


def test_values_pass_through_many_layers(local: Local) -> None:
    def down(depth: int) -> None:
        assert local.depth == depth
        local.depth = depth + 1
        if depth < 7:
            async_to_sync(down_async)(depth + 1)

    async def down_async(depth: int) -> None:
        assert local.depth == depth
        local.depth = depth + 1
        if depth < 7:
            await sync_to_async(down)(depth + 1)

    local.depth = 0
    down(0)
    assert local.depth == 8


def test_a_value_set_before_asyncio_run_reaches_bridged_code(local: Local) -> None:
    log_in(local)

    async def main() -> dict[str, object]:
        await sync_to_async(change)(local)
        return snapshot(local)

    assert asyncio.run(main()) == CHANGED
    assert snapshot(local) == {"user": "ada", "language": "en"}


def test_a_workers_next_call_does_not_see_the_values_of_its_last_call(local: Local) -> None:
    async def request(number: int) -> dict[str, object]:
        local.user = number
        await sync_to_async(setattr)(local, "session", number)
        return await sync_to_async(snapshot)(local)

    async def main() -> None:
        for number in range(5):
            task = asyncio.create_task(request(number))
            assert await task == {"user": number, "session": number}
            assert await sync_to_async(snapshot)(local) == {}

    asyncio.run(main())


@pytest.mark.asyncio
async def test_concurrent_calls_do_not_see_each_others_values(local: Local) -> None:
    everybody = asyncio.Barrier(20)

    def check(number: int) -> bool:
        unset = not hasattr(local, "session")
        local.session = number
        return unset and local.user == number

    async def request(number: int) -> bool:
        local.user = number
        await everybody.wait()
        right = await sync_to_async(check, thread_sensitive=bool(number % 2))(number)
        return right and snapshot(local) == {"user": number, "session": number}

    assert all(await asyncio.gather(*map(request, range(20))))
    assert snapshot(local) == {}


def test_a_thread_with_a_copied_context_sends_no_values_across_the_bridge(local: Local) -> None:
    log_in(local)
    copied = contextvars.copy_context()

    async def callee() -> dict[str, object]:
        return snapshot(local)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(copied.run, async_to_sync(callee)).result(30) == {}


def test_a_new_thread_sees_no_values_even_if_it_inherits_a_context(local: Local) -> None:
    seen: list[dict[str, object]] = []

    async def callee() -> None:
        seen.append(snapshot(local))

    def run() -> None:
        seen.append(snapshot(local))
        async_to_sync(callee)()

    def start() -> None:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    log_in(local)
    start()

    async def main() -> None:
        log_in(local)
        start()
        await sync_to_async(start)()

    async_to_sync(main)()
    assert seen == [{}] * 6


@pytest.mark.asyncio
@pytest.mark.skipif(INHERITS, reason="with thread_inherit_context every value belongs to a thread")
async def test_values_from_async_code_reach_threads_that_bridged_code_copies_them_to(
    local: Local,
) -> None:
    log_in(local)

    def use_pool() -> dict[str, object]:
        local.session = 1  # the worker's own
        with ThreadPoolExecutor(1) as pool:
            seen: dict[str, object] = pool.submit(
                contextvars.copy_context().run, snapshot, local
            ).result(30)
        return seen

    assert await sync_to_async(use_pool)() == {"user": "ada", "language": "en"}


def test_thread_critical_values_stay_on_their_side() -> None:
    local = Local(thread_critical=True)
    local.user = "sync"

    async def callee() -> None:
        assert snapshot(local) == {}
        local.user = "async"
        await sync_to_async(on_the_same_thread)()
        assert snapshot(local) == {"user": "async"}

    def on_the_same_thread() -> None:
        assert local.user == "sync"
        local.session += 1

    local.session = 0
    for count in (1, 2):  # the second call sees no value of the first one on the loop's thread
        async_to_sync(callee)()
        assert snapshot(local) == {"user": "sync", "session": count}


def test_thread_critical_values_of_one_context_are_invisible_in_the_next() -> None:
    local = Local(thread_critical=True)
    values: list[weakref.ref[Value]] = []

    def use(number: int, first: bool) -> None:
        if first:
            assert not hasattr(local, "value")
            local.value = Value()
            values.append(weakref.ref(local.value))
            local.number = number
        assert local.number == number

    async def tenant(number: int) -> None:
        async with ThreadSensitiveContext():
            await sync_to_async(use)(number, True)
            await sync_to_async(use)(number, False)

    async def main() -> None:
        for number in range(10):
            await tenant(number)
        await asyncio.gather(*map(tenant, range(10, 20)))

    asyncio.run(main())
    assert len(values) == 20


def test_thread_critical_values_are_visible_again_in_code_on_the_same_loop() -> None:
    critical = Local(thread_critical=True)

    async def inner() -> None:
        assert snapshot(critical) == {"user": "ada", "language": "en"}
        critical.user = "grace"
        del critical.language

    def between() -> None:
        assert snapshot(critical) == {}
        critical.user = "the thread's"
        async_to_sync(inner)()
        assert snapshot(critical) == {"user": "the thread's"}

    async def main() -> None:
        log_in(critical)
        await sync_to_async(between)()
        assert snapshot(critical) == {"user": "grace"}

    asyncio.run(main())


def test_values_die_with_the_local_after_calls_in_both_directions() -> None:
    value, local = Value(), Local()
    dying = weakref.ref(value)
    local.value = value
    del value

    async def callee(local: Local) -> None:
        await sync_to_async(setattr)(local, "user", local.value)

    async_to_sync(callee)(local)
    assert local.user is dying()
    del local
    assert dying() is None


# Random programs. A program is a list of steps; both interpreters return the visible values at the
# end.
steps = st.deferred(
    lambda: (
        st.tuples(st.just("set"), st.sampled_from(NAMES), st.integers(0, 9))
        | st.tuples(st.just("delete"), st.sampled_from(NAMES))
        | st.tuples(st.sampled_from(["call", "call", "copy", "thread"]), programs)
    )
)
programs = st.lists(steps, max_size=5)


def step_here(local: Local, expected: dict[str, object], step: tuple[Any, ...]) -> None:
    if step[0] == "set":
        setattr(local, step[1], step[2])
        expected[step[1]] = step[2]
    elif step[0] == "delete":
        try:
            delattr(local, step[1])
        except AttributeError:
            assert step[1] not in expected
        else:
            del expected[step[1]]


def run_sync(local: Local, expected: dict[str, object], program: list[Any]) -> None:
    """Run in synchronous code, and change `expected` to the values visible at the end."""
    assert snapshot(local) == expected
    for step in program:
        step_here(local, expected, step)
        if step[0] == "call":
            async_to_sync(run_async)(local, expected, step[1])
        elif step[0] == "copy":
            contextvars.copy_context().run(run_sync, local, dict(expected), step[1])
        elif step[0] == "thread":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(run_sync, local, {}, step[1]).result(30)
        assert snapshot(local) == expected


async def run_async(local: Local, expected: dict[str, object], program: list[Any]) -> None:
    """Do the same in async code."""
    assert snapshot(local) == expected
    for step in program:
        step_here(local, expected, step)
        if step[0] == "call":
            await sync_to_async(run_sync)(local, expected, step[1])
        elif step[0] == "copy":
            await asyncio.create_task(run_async(local, dict(expected), step[1]))
        elif step[0] == "thread":
            empty = contextvars.Context()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, empty.run, run_sync, local, {}, step[1])
        assert snapshot(local) == expected


@settings(max_examples=60, deadline=None)
@given(programs)
def test_random_programs_see_the_values_that_the_rules_predict(program: list[Any]) -> None:
    local, context = Local(), contextvars.Context()
    expected: dict[str, object] = {}
    context.run(run_sync, local, expected, program)  # which compares after each step
    assert context.run(snapshot, local) == expected


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the setting came with Python 3.14")
@pytest.mark.skipif("LOCAL_INHERIT_RUN" in os.environ, reason="this is that run")
@pytest.mark.parametrize("inherit", [0, 1])
def test_these_tests_pass_whether_or_not_threads_inherit_contexts(inherit: int) -> None:
    options = ["-X", f"thread_inherit_context={inherit}", "-m", "pytest", "-q"]
    run = subprocess.run(
        [sys.executable, *options, "--noconftest", __file__],
        env={**os.environ, "LOCAL_INHERIT_RUN": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
