"""Every attribute name works or is refused, and none gives access to internal state."""

import asyncio
import copy
import pickle
from collections.abc import Callable

import pytest

from asgiref.local import Local

REFUSED = sorted({*dir(object), "__module__", "__dict__", "__slots__", "__weakref__", "_data"})
USUAL = [
    "value", "_storage", "_lock", "_var", "by_name", "lifetime", "get", "owner", "cell",
    "__len__", "__iter__", "__call__", "__getattr__", "__get__", "__bridge__", "__asgiref_bridge__",
    "__wrapped__", "__name__", "__annotations__", "mro", "self", "name",
    "", " ", "a.b", "ä", "\udc80", "1",
]  # fmt: skip


@pytest.fixture(params=[False, True], ids=["following", "thread_critical"])
def local(request: pytest.FixtureRequest) -> Local:
    return Local(thread_critical=request.param)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], None]], None]:
    if not request.param:
        return lambda function: function()

    async def call(function: Callable[[], None]) -> None:
        function()

    return lambda function: asyncio.run(call(function))


@pytest.mark.parametrize("name", USUAL, ids=ascii)
def test_a_name_round_trips(
    local: Local, run: Callable[[Callable[[], None]], None], name: str
) -> None:
    def round_trip() -> None:
        for missing in (getattr, delattr):
            with pytest.raises(AttributeError):
                missing(local, name)
        value = object()
        setattr(local, name, value)
        assert getattr(local, name) is value
        assert name in dir(local)
        delattr(local, name)
        assert not hasattr(local, name)
        assert name not in dir(local)

    run(round_trip)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_name_breaks_nothing(
    local: Local, run: Callable[[Callable[[], None]], None], name: str
) -> None:
    def refuse() -> None:
        local.value = "kept"
        with pytest.raises(AttributeError, match="is reserved") as caught:
            setattr(local, name, "user's")
        assert repr(local) in str(caught.value)
        assert repr(name) in str(caught.value)
        with pytest.raises(AttributeError, match=f"{name!r}"):
            delattr(local, name)
        assert local.value == "kept"

    run(refuse)


def test_no_attribute_shows_internal_state(local: Local) -> None:
    local.value = "kept"
    inside = [name for name in dir(local) if name not in dir(object)]
    assert set(inside) <= {"value", "__module__"}
    for name in ("__dict__", "__slots__", "__weakref__", "_data", "_storage", "_lock"):
        assert not hasattr(local, name)
    with pytest.raises(TypeError):
        vars(local)


def test_the_attributes_of_every_object_work(local: Local) -> None:
    assert isinstance(local, Local)
    assert local.__class__ is type(local)
    assert local.__doc__ == type(local).__doc__
    assert local != Local()
    assert hash(local) == object.__hash__(local)
    assert {local: 1}[local] == 1
    assert local.__repr__() == repr(local)


def test_a_missing_attribute_is_named_with_its_local(
    local: Local, run: Callable[[Callable[[], None]], None]
) -> None:
    def ask() -> None:
        with pytest.raises(AttributeError) as read:
            _ = local.user
        with pytest.raises(AttributeError) as deleted:
            del local.user
        for caught in (read, deleted):
            assert str(caught.value).startswith(f"{local!r} has no attribute 'user'")
        assert read.value.name == "user"
        assert read.value.obj is local

    run(ask)


def test_a_name_from_a_str_subclass_is_not_kept_alive_by_the_local(local: Local) -> None:
    class Name(str):
        __slots__ = ()

    setattr(local, Name("user"), "ada")
    assert local.user == "ada"
    assert all(type(name) is str for name in dir(local))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_local_cannot_be_copied_or_pickled(
    local: Local, duplicate: Callable[[Local], object]
) -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(local)


def test_instances_have_the_classes_that_asgiref_has() -> None:
    from asgiref.local import _DefaultLocal, _ThreadCriticalLocal

    assert type(Local()) is _DefaultLocal
    assert type(Local(thread_critical=True)) is _ThreadCriticalLocal
    assert type(Local(True)) is _ThreadCriticalLocal


def test_a_subclass_is_refused_by_name() -> None:
    class Mine(Local):
        pass

    with pytest.raises(TypeError, match=r"Mine: asgiref\.local\.Local cannot be subclassed"):
        Mine()


def test_a_local_holds_any_number_of_names(
    local: Local, run: Callable[[Callable[[], None]], None]
) -> None:
    names = [f"name{number}" for number in range(3000)]

    def use_many() -> None:
        for name in names:
            setattr(local, name, name)
        assert all(getattr(local, name) == name for name in names)
        assert set(names) <= set(dir(local))
        for name in names[::2]:
            delattr(local, name)
        assert [name for name in names if hasattr(local, name)] == names[1::2]
        with pytest.raises(AttributeError, match="'name0'"):
            _ = local.name0
        with pytest.raises(AttributeError, match="'name2998'"):
            del local.name2998

    run(use_many)
