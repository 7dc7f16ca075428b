"""A dead Local, task or thread keeps no value alive, and no value waits for the collector."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from asgiref.local import Local


class Value:
    """An object that supports weak references."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Disable the cyclic collector: an object that dies anyway was not part of a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def set_value(local: Local, name: str = "value") -> "weakref.ref[Value]":
    value = Value()
    setattr(local, name, value)
    return weakref.ref(value)


@pytest.mark.parametrize("thread_critical", [False, True])
def test_values_die_with_the_local_even_if_the_context_lives(thread_critical: bool) -> None:
    local = Local(thread_critical=thread_critical)
    dying = [set_value(local), set_value(local, "other")]
    assert all(reference() is not None for reference in dying)
    del local
    assert [reference() for reference in dying] == [None, None]


@pytest.mark.parametrize("thread_critical", [False, True])
@pytest.mark.asyncio
async def test_a_tasks_values_die_with_the_local(thread_critical: bool) -> None:
    local = Local(thread_critical=thread_critical)
    dying = set_value(local)
    assert dying() is not None
    del local
    assert dying() is None


def test_values_in_other_threads_contexts_die_with_the_local(place: Any) -> None:
    local = Local()
    contexts = [contextvars.Context() for _ in range(3)]
    dying = [
        place.run(partial(set_value, local), context, in_loop=in_loop)
        for context in contexts
        for in_loop in (False, True)
    ]
    living = [reference() is not None for reference in dying]
    assert living == [False, True] * 3  # the second replaced the first
    del local
    assert [reference() for reference in dying] == [None] * 6


def test_values_die_with_the_local_after_they_crossed_the_bridge(
    make_place: Any, crossing: Any
) -> None:
    caller, callee, context = make_place(), make_place(), contextvars.Context()
    local = Local()
    dying = caller.run(partial(set_value, local), context)
    call = crossing.go(caller, context, False, callee, True)
    inner = call.run(partial(set_value, local, "inner"))
    call.come_back()
    assert dying() is not None
    assert inner() is not None
    del local
    assert dying() is None
    assert inner() is None


def test_values_under_many_names_die_with_the_local() -> None:
    local = Local()
    dying = [set_value(local, f"name{number}") for number in range(2000)]
    assert all(reference() is not None for reference in dying)
    del local
    assert not any(reference() is not None for reference in dying)


@pytest.mark.parametrize("thread_critical", [False, True])
def test_the_local_itself_is_not_part_of_a_cycle(thread_critical: bool) -> None:
    local = Local(thread_critical=thread_critical)
    local.value = 1
    for use in (getattr, delattr):
        with pytest.raises(AttributeError):
            use(local, "missing")
    dying = weakref.ref(local)
    del local
    assert dying() is None
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        assert [thing for thing in gc.garbage if "asgiref" in type(thing).__module__] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("thread_critical", [False, True])
def test_a_replaced_or_deleted_value_dies_at_once(thread_critical: bool) -> None:
    local = Local(thread_critical=thread_critical)
    replaced = set_value(local)
    deleted = set_value(local)
    assert replaced() is None
    del local.value
    assert deleted() is None


@pytest.mark.parametrize("thread_critical", [False, True])
def test_values_die_with_their_task(thread_critical: bool) -> None:
    local = Local(thread_critical=thread_critical)

    async def child() -> "weakref.ref[Value]":
        return set_value(local)

    async def main() -> "weakref.ref[Value]":
        dying = await asyncio.create_task(child())
        await asyncio.sleep(0)
        return dying

    dying = asyncio.run(main())
    gc.collect()  # asyncio leaves cycles of its own
    assert dying() is None


def test_a_value_that_refers_to_its_task_dies_with_it() -> None:
    local = Local()

    async def main() -> "weakref.ref[asyncio.Task[Any]]":
        task = asyncio.current_task()
        assert task is not None
        local.task = task
        return weakref.ref(task)

    dying = asyncio.run(main())
    gc.collect()
    assert dying() is None


def test_a_parents_value_dies_with_its_last_reader() -> None:
    local = Local()
    value = set_value(local)
    child = contextvars.copy_context()
    del local.value
    assert value() is not None
    assert child.run(lambda: local.value) is value()
    del child
    assert value() is None


def test_values_die_with_their_thread() -> None:
    local = Local()
    dying: list[weakref.ref[Value]] = []
    thread = threading.Thread(target=lambda: dying.append(set_value(local)))
    thread.start()
    thread.join()
    del thread  # since Python 3.14 it keeps its context
    assert dying[0]() is None


def test_a_value_in_a_cycle_with_its_dead_local_is_collected() -> None:
    def use() -> "weakref.ref[Local]":
        local = Local()
        local.itself = local
        return weakref.ref(local)

    dying = contextvars.Context().run(use)
    gc.collect()
    assert dying() is None


def test_contexts_with_different_values_are_not_equal() -> None:
    local = Local()
    contexts = [contextvars.Context(), contextvars.Context()]
    for number, context in enumerate(contexts):
        context.run(setattr, local, "value", number)
    assert contexts[0] != contexts[1]
    assert contexts[0] == contexts[0].copy()
