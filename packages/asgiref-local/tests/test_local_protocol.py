"""The protocol between asgiref.local and a bridge, tested with a minimal bridge."""

import contextvars
import sys
import threading
from functools import partial
from typing import Any

import pytest

from asgiref.local import Local

INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))


@pytest.fixture
def context() -> contextvars.Context:
    return contextvars.Context()


@pytest.mark.parametrize("in_loop", [False, True], ids=["to sync", "to async"])
@pytest.mark.parametrize("caller_in_loop", [False, True], ids=["from sync", "from async"])
@pytest.mark.parametrize("names", [1, 3000])
def test_values_reach_the_callee_and_changes_propagate_back(
    make_place: Any,
    crossing: Any,
    context: contextvars.Context,
    in_loop: bool,
    caller_in_loop: bool,
    names: int,
) -> None:
    caller, callee = make_place(), make_place()
    local = Local()
    extra = [f"name{number}" for number in range(names)]

    def prepare() -> None:
        local.kept = local.changed = local.deleted = "caller's"
        for name in extra:
            setattr(local, name, "caller's")

    def change() -> None:
        assert local.kept == "caller's"
        assert {getattr(local, name) for name in extra} == {"caller's"}
        local.changed = local.added = "callee's"
        del local.deleted
        setattr(local, extra[-1], "callee's")

    def look() -> None:
        assert (local.kept, local.changed, local.added) == ("caller's", "callee's", "callee's")
        assert not hasattr(local, "deleted")
        assert getattr(local, extra[-1]) == "callee's"
        assert all(getattr(local, name) == "caller's" for name in extra[:-1])

    caller.run(prepare, context, in_loop=caller_in_loop)
    call = crossing.go(caller, context, caller_in_loop, callee, in_loop)
    call.run(change)
    assert caller.run(lambda: local.changed, context, in_loop=caller_in_loop) == "caller's"
    call.come_back()
    caller.run(look, context, in_loop=caller_in_loop)
    # The next call: a propagated value belongs to the caller like a value that the caller set.
    other = crossing.go(caller, context, caller_in_loop, make_place(), not in_loop)
    other.run(look)


def test_a_change_that_propagates_to_sync_code_belongs_to_its_thread(
    make_place: Any, crossing: Any, context: contextvars.Context
) -> None:
    caller, loop_thread, stranger = make_place(), make_place(), make_place()
    local = Local()
    call = crossing.go(caller, context, False, loop_thread, True)
    call.run(lambda: setattr(local, "user", "ada"))
    call.come_back()
    assert caller.run(lambda: local.user, context) == "ada"
    assert stranger.run(lambda: hasattr(local, "user"), context.copy()) is False


@pytest.mark.skipif(INHERITS, reason="with thread_inherit_context every value belongs to a thread")
def test_a_value_from_async_code_has_no_owner_in_sync_code_that_it_calls(
    make_place: Any, crossing: Any, context: contextvars.Context
) -> None:
    loop_thread, worker, stranger = make_place(), make_place(), make_place()
    local = Local()
    loop_thread.run(lambda: setattr(local, "user", "ada"), context, in_loop=True)
    call = crossing.go(loop_thread, context, True, worker, False)
    assert call.run(lambda: local.user) == "ada"
    assert stranger.run(lambda: local.user, call.context.copy()) == "ada"


def test_values_in_a_copy_of_another_threads_context_do_not_cross(
    make_place: Any, crossing: Any, context: contextvars.Context
) -> None:
    owner, stranger, loop_thread = make_place(), make_place(), make_place()
    local = Local()
    owner.run(lambda: setattr(local, "user", "ada"), context)
    copied = context.copy()
    stranger.run(lambda: setattr(local, "own", "grace"), copied)
    call = crossing.go(stranger, copied, False, loop_thread, True)
    assert call.run(lambda: (hasattr(local, "user"), local.own)) == (False, "grace")


def test_a_change_that_propagates_back_belongs_to_the_caller(
    make_place: Any, context: contextvars.Context
) -> None:
    owner, receiver = make_place(), make_place()
    local = Local()
    owner.run(lambda: setattr(local, "user", "ada"), context)
    (variable,) = context

    def receive() -> str:
        variable.set(type(variable.get()).__asgiref_bridge__(variable.get()))
        seen: str = local.user
        return seen

    assert receiver.run(receive, context) == "ada"


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_thread_is_marked_when_it_owns_a_value(
    place: Any, context: contextvars.Context, in_loop: bool
) -> None:
    local = Local()
    place.run(lambda: setattr(local, "user", "ada"), context, in_loop=in_loop)
    marked = "__asgiref_owner__" in place.thread.__dict__
    assert marked is (INHERITS or not in_loop)


def test_values_of_a_dead_local_do_not_cross(
    make_place: Any, crossing: Any, context: contextvars.Context
) -> None:
    caller, callee = make_place(), make_place()
    local = Local()
    caller.run(partial(setattr, local, "user", "ada"), context)
    del local
    call = crossing.go(caller, context, False, callee, True)
    call.come_back()
    assert caller.run(lambda: threading.current_thread() is caller.thread, context)
