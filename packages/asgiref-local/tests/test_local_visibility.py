"""Which code sees the values of a Local, without a bridge."""

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

import pytest

from asgiref.local import Local

INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))


def test_a_value_can_be_set_read_changed_and_deleted() -> None:
    local = Local()
    local.user = "ada"
    assert local.user == "ada"
    local.user = "grace"
    assert local.user == "grace"
    del local.user
    assert not hasattr(local, "user")


def test_none_is_a_value() -> None:
    local = Local()
    local.user = None
    assert local.user is None
    assert hasattr(local, "user")


def test_locals_do_not_share_attributes() -> None:
    one, other = Local(), Local()
    one.user = "ada"
    assert not hasattr(other, "user")


def test_a_new_thread_sees_nothing(place: Any) -> None:
    local = Local()
    local.user = "ada"
    assert place.run(lambda: hasattr(local, "user")) is False
    place.run(lambda: setattr(local, "user", "grace"))
    assert local.user == "ada"
    assert place.run(lambda: local.user) == "grace"


def test_a_copied_context_does_not_carry_sync_values_to_another_thread(place: Any) -> None:
    local = Local()
    local.user = "ada"
    copied = contextvars.copy_context()
    assert copied.run(lambda: local.user) == "ada"
    assert place.run(lambda: hasattr(local, "user"), copied) is False
    with pytest.raises(AttributeError):
        place.run(lambda: delattr(local, "user"), copied)
    place.run(lambda: setattr(local, "user", "grace"), copied)
    assert local.user == "ada"


def test_a_thread_that_reuses_the_number_of_an_ended_thread_does_not_see_its_values(
    make_place: Callable[[], Any],
) -> None:
    local = Local()
    contexts: dict[int | None, contextvars.Context] = {}
    for _ in range(50):
        place = make_place()
        number = place.thread.ident
        if number in contexts:
            seen = place.run(lambda: hasattr(local, "user"), contexts[number])
            assert seen is False
            return
        contexts[number] = contextvars.Context()
        place.run(lambda: setattr(local, "user", "ada"), contexts[number])
        place.close()
    pytest.fail("this system never reuses a thread's number, so the test proves nothing here")


def test_sync_code_that_runs_in_a_copied_context_does_not_change_the_original() -> None:
    local = Local()
    local.kept = local.changed = local.deleted = "before"

    def change() -> tuple[str, str]:
        local.changed = "after"
        del local.deleted
        return local.kept, local.changed

    assert contextvars.copy_context().run(change) == ("before", "after")
    assert (local.kept, local.changed, local.deleted) == ("before", "before", "before")


def test_asyncio_run_sees_its_threads_values() -> None:
    local = Local()
    local.user = "ada"

    async def main() -> str:
        seen: str = local.user
        local.user = "grace"
        return seen

    assert asyncio.run(main()) == "ada"
    assert local.user == "ada"


@pytest.mark.asyncio
async def test_awaited_code_shares_values() -> None:
    local = Local()

    async def log_in() -> None:
        await asyncio.sleep(0)
        local.user = "ada"

    await log_in()
    assert local.user == "ada"


@pytest.mark.asyncio
async def test_a_task_sees_its_parents_values_and_keeps_its_changes_to_itself() -> None:
    local = Local()
    local.kept = local.changed = local.deleted = "parent"

    async def child() -> list[object]:
        seen = [local.kept, local.changed, local.deleted]
        local.changed = "child"
        del local.deleted
        await asyncio.sleep(0)
        return [*seen, local.changed, hasattr(local, "deleted")]

    seen = await asyncio.create_task(child())
    assert seen == ["parent", "parent", "parent", "child", False]
    assert (local.changed, local.deleted) == ("parent", "parent")


@pytest.mark.asyncio
async def test_a_task_does_not_see_its_parents_later_changes() -> None:
    local = Local()
    local.user = "before"
    changed = asyncio.Event()

    async def child() -> str:
        await changed.wait()
        seen: str = local.user
        return seen

    task = asyncio.create_task(child())
    local.user = "after"
    changed.set()
    assert await task == "before"


@pytest.mark.asyncio
async def test_sibling_tasks_do_not_see_each_other() -> None:
    local = Local()
    everybody = asyncio.Barrier(20)

    async def sibling(number: int) -> bool:
        unset = not hasattr(local, "number")
        local.number = number
        await everybody.wait()
        return unset and local.number == number

    assert all(await asyncio.gather(*map(sibling, range(20))))


@pytest.mark.skipif(INHERITS, reason="with thread_inherit_context every value belongs to a thread")
@pytest.mark.asyncio
async def test_to_thread_and_other_copies_of_the_context_see_values_from_async_code() -> None:
    local = Local()
    local.user = "ada"
    assert await asyncio.to_thread(lambda: local.user) == "ada"
    loop = asyncio.get_running_loop()
    copied = contextvars.copy_context()
    assert await loop.run_in_executor(None, copied.run, lambda: local.user) == "ada"
    assert await loop.run_in_executor(None, lambda: hasattr(local, "user")) is False


@pytest.mark.skipif(INHERITS, reason="with thread_inherit_context every value belongs to a thread")
@pytest.mark.asyncio
async def test_changes_in_to_thread_stay_there() -> None:
    local = Local()
    local.user = local.session = "ada"

    def change() -> tuple[str, bool]:
        local.user = "grace"
        del local.session
        return local.user, hasattr(local, "session")

    assert await asyncio.to_thread(change) == ("grace", False)
    assert (local.user, local.session) == ("ada", "ada")


@pytest.mark.skipif(not INHERITS, reason="needs thread_inherit_context")
@pytest.mark.asyncio
async def test_a_thread_with_an_inherited_context_sees_no_value_of_its_parent_thread() -> None:
    local = Local()
    local.user = "ada"
    assert await asyncio.to_thread(lambda: hasattr(local, "user")) is False
    assert local.user == "ada"


@pytest.mark.asyncio
async def test_two_tasks_that_share_a_context_change_different_attributes() -> None:
    local = Local()
    shared = contextvars.copy_context()
    loop = asyncio.get_running_loop()

    async def change(name: str) -> None:
        setattr(local, name, name)

    await asyncio.gather(*(loop.create_task(change(name), context=shared) for name in "abc"))
    assert [shared.run(getattr, local, name) for name in "abc"] == ["a", "b", "c"]
    assert not hasattr(local, "a")
