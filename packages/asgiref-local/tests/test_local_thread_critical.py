"""Values of a `Local(thread_critical=True)` stay on the thread that set them."""

import asyncio
import contextvars
import gc
import weakref
from functools import partial
from typing import Any

import pytest

from asgiref.local import Local


class Value:
    """An object that supports weak references."""


def test_sync_code_sees_its_threads_values_in_any_context(place: Any) -> None:
    local = Local(thread_critical=True)
    contextvars.copy_context().run(lambda: setattr(local, "connection", "mine"))
    assert local.connection == "mine"
    assert place.run(lambda: hasattr(local, "connection"), contextvars.copy_context()) is False


def test_sync_and_async_code_do_not_see_each_others_values() -> None:
    local = Local(thread_critical=True)
    local.connection = "sync"

    async def main() -> None:
        assert not hasattr(local, "connection")
        local.connection = "async"
        assert local.connection == "async"

    asyncio.run(main())
    assert local.connection == "sync"


@pytest.mark.asyncio
async def test_tasks_inherit_and_are_isolated() -> None:
    local = Local(thread_critical=True)
    local.connection = "parent"

    async def child(name: str) -> tuple[str, str]:
        seen = local.connection
        local.connection = name
        await asyncio.sleep(0)
        return seen, local.connection

    assert await asyncio.gather(child("a"), child("b")) == [("parent", "a"), ("parent", "b")]
    assert local.connection == "parent"


@pytest.mark.asyncio
async def test_a_copied_context_shows_nothing_in_another_thread(place: Any) -> None:
    local = Local(thread_critical=True)
    local.connection = "mine"
    copied = contextvars.copy_context()
    for in_loop in (False, True):
        seen = place.run(lambda: hasattr(local, "connection"), copied.copy(), in_loop=in_loop)
        assert seen is False
    assert await asyncio.to_thread(hasattr, local, "connection") is False


@pytest.mark.parametrize("in_loop", [False, True], ids=["to sync", "to async"])
@pytest.mark.parametrize("caller_in_loop", [False, True], ids=["from sync", "from async"])
@pytest.mark.parametrize("names", [1, 3000])
def test_no_value_crosses_the_bridge(
    make_place: Any, crossing: Any, in_loop: bool, caller_in_loop: bool, names: int
) -> None:
    caller, callee, context = make_place(), make_place(), contextvars.Context()
    local = Local(thread_critical=True)
    wanted = [f"connection{number}" for number in range(names)]

    def set_all(value: str) -> None:
        for name in wanted:
            setattr(local, name, value)

    def seen() -> set[str | None]:
        return {getattr(local, name, None) for name in wanted}

    caller.run(lambda: set_all("caller's"), context, in_loop=caller_in_loop)
    call = crossing.go(caller, context, caller_in_loop, callee, in_loop)
    assert call.run(seen) == {None}
    call.run(lambda: set_all("callee's"))
    assert call.run(seen) == {"callee's"}
    call.come_back()
    assert caller.run(seen, context, in_loop=caller_in_loop) == {"caller's"}


def test_a_value_from_one_call_is_not_visible_to_the_next_call_on_the_same_loop(
    make_place: Any, crossing: Any
) -> None:
    caller, callee, context = make_place(), make_place(), contextvars.Context()
    local = Local(thread_critical=True)
    for _ in range(2):
        call = crossing.go(caller, context, False, callee, True)
        assert call.run(lambda: hasattr(local, "connection")) is False
        call.run(lambda: setattr(local, "connection", "callee's"))
        call.come_back()


def test_values_die_with_the_local_in_every_thread(make_place: Any) -> None:
    places = [make_place(), make_place()]
    local = Local(thread_critical=True)
    dying = []
    for place in places:
        value = Value()
        dying.append(weakref.ref(value))
        place.run(partial(setattr, local, "connection", value))
        del value
    gc.collect()
    assert all(reference() is not None for reference in dying)
    del local
    gc.collect()
    assert [reference() for reference in dying] == [None, None]


def test_values_die_with_their_thread(make_place: Any) -> None:
    local = Local(thread_critical=True)
    place, value = make_place(), Value()
    dying = weakref.ref(value)
    place.run(lambda value=value: setattr(local, "connection", value))
    del value
    place.close()
    gc.collect()
    assert dying() is None
    assert not hasattr(local, "connection")
