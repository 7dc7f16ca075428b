"""Hostile objects, names and interrupts cause no internal error and lose no value."""

import asyncio
import contextvars
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import pytest
from programs import run_program

from asgiref import local as package
from asgiref.local import Local

FOLDER = os.path.dirname(package.__file__)


class Refusing:
    """A value whose special methods all raise."""

    def refuse(self, *_: object) -> NoReturn:
        raise RuntimeError("compared, hashed, tested or shown")

    __eq__ = __ne__ = __hash__ = __bool__ = __len__ = __repr__ = __str__ = refuse  # type: ignore[assignment]


class Finalizing:
    """Calls a function when it dies."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def __del__(self) -> None:
        self._function()


@pytest.fixture(params=[False, True], ids=["default", "thread_critical"])
def local(request: pytest.FixtureRequest) -> Local:
    return Local(thread_critical=request.param)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def in_loop(request: pytest.FixtureRequest) -> bool:
    result: bool = request.param
    return result


# Values


def test_values_are_never_compared_hashed_or_shown(
    local: Local, place: Any, in_loop: bool, make_place: Any, crossing: Any
) -> None:
    one, other = Refusing(), Refusing()
    context = contextvars.Context()

    def use() -> None:
        for value in (one, other):
            local.value = value
            assert local.value is value
        dir(local)
        del local.value
        assert not hasattr(local, "value")
        local.value = one

    place.run(use, context, in_loop=in_loop)
    call = crossing.go(place, context, in_loop, make_place(), not in_loop)
    call.run(lambda: setattr(local, "value", other))
    call.come_back()
    seen = place.run(lambda: local.value, context, in_loop=in_loop)
    assert seen is (one if type(local) is package._ThreadCriticalLocal else other)


def test_a_finalizer_of_a_replaced_value_can_set_the_attribute(
    local: Local, place: Any, in_loop: bool
) -> None:
    def use() -> str:
        local.value = Finalizing(lambda: setattr(local, "value", "the finalizer's"))
        local.value = "replaces it"
        seen: str = local.value
        return seen

    assert place.run(use, in_loop=in_loop) == "the finalizer's"


def test_a_finalizer_of_a_deleted_value_finds_it_deleted(
    local: Local, place: Any, in_loop: bool
) -> None:
    seen: list[bool] = []

    def finalize() -> None:
        seen.append(hasattr(local, "value"))
        local.other = "the finalizer's"
        with pytest.raises(AttributeError):
            del local.value

    def use() -> str:
        local.value = Finalizing(finalize)
        del local.value
        other: str = local.other
        return other

    assert place.run(use, in_loop=in_loop) == "the finalizer's"
    assert seen == [False]


def test_a_finalizer_of_a_value_that_dies_with_its_local_can_use_another_local(
    place: Any, in_loop: bool
) -> None:
    other = Local()

    def use(thread_critical: bool) -> None:
        dying = Local(thread_critical=thread_critical)
        dying.value = Finalizing(lambda: setattr(other, f"seen{thread_critical}", True))

    def use_both() -> tuple[bool, bool]:
        use(False)
        use(True)
        return other.seenFalse, other.seenTrue

    assert place.run(use_both, in_loop=in_loop) == (True, True)


@pytest.mark.parametrize("thread_critical", [False, True])
def test_finalizers_that_run_when_a_thread_ends_can_use_the_local(thread_critical: bool) -> None:
    program = f"""
        import gc, os, threading
        from asgiref.local import Local

        local = Local(thread_critical={thread_critical})

        class Value:
            def __del__(self):
                local.value = "the finalizer's"
                print(local.value)
                del local.value
                print(hasattr(local, "value"))

        def work():
            local.kept = Value()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        del thread  # since Python 3.14 it keeps its context
        gc.collect()
        print(hasattr(local, "kept"), flush=True)
        # At exit, CPython 3.13.0 complains about threads that it first saw while they ended.
        os._exit(0)
    """
    assert run_program(program) == "the finalizer's\nFalse\nFalse\n"


def test_finalizers_that_the_collector_runs_during_writes_lose_no_value(local: Local) -> None:
    class Cycle:
        def __init__(self, number: int) -> None:
            self.itself = self
            self.number = number

        def __del__(self) -> None:
            setattr(local, f"finalized{self.number}", self.number)

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(300):
            Cycle(number)
            setattr(local, f"name{number}", number)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    for kind in ("name", "finalized"):
        assert [getattr(local, f"{kind}{number}") for number in range(300)] == list(range(300))


def test_a_long_chain_of_locals_dies(in_loop: bool, place: Any) -> None:
    def use() -> "list[weakref.ref[Local]]":
        chain = Local()
        links = [weakref.ref(chain)]
        for _ in range(100):
            outer = Local()
            outer.inner = chain
            chain = outer
            links.append(weakref.ref(chain))
        return links

    assert [link() for link in place.run(use, in_loop=in_loop)] == [None] * 101


# Names


@pytest.mark.parametrize("method", ["__eq__", "__hash__", "__str__", "__repr__"])
def test_a_name_whose_methods_raise_breaks_nothing(
    local: Local, place: Any, in_loop: bool, method: str
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise ZeroDivisionError

    methods: dict[str, Any] = {"__hash__": str.__hash__, method: refuse}
    name = type("Name", (str,), methods)("value")

    def use() -> str:
        local.value = "kept"
        for change in (lambda: setattr(local, name, "changed"), lambda: delattr(local, name)):
            try:
                change()
            except ZeroDivisionError:
                assert local.value == "kept"
            local.value = "kept"
        assert all(type(each) is str for each in dir(local))
        seen: str = local.value
        return seen

    assert place.run(use, in_loop=in_loop) == "kept"


@pytest.mark.parametrize("name", [1, None, b"value"])
def test_a_name_that_is_not_a_string_is_a_type_error(local: Local, name: Any) -> None:
    for use in (getattr, delattr):
        with pytest.raises(TypeError):
            use(local, name)
    with pytest.raises(TypeError):
        setattr(local, name, 1)
    with pytest.raises(TypeError):
        local.__setattr__(name, 1)


# Classes


@pytest.mark.parametrize(
    "body",
    [
        {"__init__": lambda self, user, *, role: None},
        {"user": property(lambda self: "ada")},
        {"__slots__": ("user",)},
        {"__getattr__": lambda self, name: name},
        {"user": "a default"},
    ],
    ids=["init", "property", "slots", "getattr", "default"],
)
def test_a_subclass_of_any_kind_is_refused_as_in_asgiref(body: dict[str, Any]) -> None:
    mine = type("Mine", (Local,), body)
    for options in ({}, {"thread_critical": True}):
        with pytest.raises(TypeError, match=r"Mine: .* cannot be subclassed"):
            mine(**options)


# Interrupts


class Interrupt(BaseException):
    """Stands for an exception that a signal handler raises."""


def interrupted(function: Callable[[], object], line: int) -> bool:
    """Call `function` and raise `Interrupt` before the package executes its line number `line`.

    Return whether the package executed that many lines.
    """
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            lines += 1
            if lines == line:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


OPERATIONS: dict[str, Callable[[Local], object]] = {
    "set": lambda local: setattr(local, "value", "changed"),
    "set a new name": lambda local: setattr(local, "new", "changed"),
    "read": lambda local: local.value,
    "read a missing name": lambda local: getattr(local, "missing", None),
    "delete": lambda local: delattr(local, "value"),
    "dir": dir,
}


@pytest.mark.parametrize(
    ("operation", "is_new_thread"),
    [*((name, False) for name in OPERATIONS), ("set", True), ("read a missing name", True)],
)
@pytest.mark.parametrize("thread_critical", [False, True])
def test_an_interrupt_at_any_line_leaves_the_old_value_or_the_new(
    make_place: Any,
    crossing: Any,
    in_loop: bool,
    is_new_thread: bool,
    thread_critical: bool,
    operation: str,
) -> None:
    callee = make_place()
    line, was_interrupted = 0, True
    while was_interrupted:
        line += 1
        local = Local(thread_critical=thread_critical)
        place, context = make_place(), contextvars.Context()

        def operate(local: Local = local, line: int = line) -> bool:
            if not is_new_thread:
                local.value = "kept"
            return interrupted(lambda: OPERATIONS[operation](local), line)

        def look(local: Local = local) -> list[str]:
            seen = [getattr(local, name, "absent") for name in ("value", "new")]
            local.value = local.new = "afterwards"
            assert (local.value, local.new) == ("afterwards", "afterwards")
            return seen

        was_interrupted = place.run(operate, context, in_loop=in_loop)
        value, new = place.run(look, context, in_loop=in_loop)
        assert value in ("kept", "changed", "absent")
        assert new in ("changed", "absent")
        call = crossing.go(place, context, in_loop, callee, not in_loop)
        crossed = call.run(lambda local=local: getattr(local, "value", "absent"))
        assert crossed == ("absent" if thread_critical else "afterwards")
        place.close()
    assert line > 2


# Concurrency


@pytest.fixture
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switch_often")
def test_many_threads_and_tasks_leave_no_value_behind(local: Local) -> None:
    class Value:
        pass

    values: weakref.WeakSet[Value] = weakref.WeakSet()

    def use() -> None:
        for name in ("value", "other"):
            value = Value()
            values.add(value)
            setattr(local, name, value)
            assert getattr(local, name) is value

    async def task() -> None:
        use()
        await asyncio.sleep(0)
        use()

    async def main() -> None:
        await asyncio.gather(*(task() for _ in range(50)))

    def in_thread() -> None:
        use()
        asyncio.run(main())

    def run_threads() -> None:
        threads = [threading.Thread(target=in_thread) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_threads()
    gc.collect()
    assert len(values) == 0
    assert weakref.getweakrefcount(local) == 0


@pytest.mark.usefixtures("switch_often")
def test_threads_that_first_set_an_attribute_at_the_same_time_share_it(place: Any) -> None:
    """All threads must store the value in the same context variable."""
    context = contextvars.Context()
    for _ in range(100):
        local, start = Local(), threading.Barrier(4)

        def name_it(local: Local = local, start: threading.Barrier = start) -> None:
            start.wait(30)
            local.value = "a thread's"
            assert local.value == "a thread's"

        threads = [threading.Thread(target=name_it) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait(30)
        context.run(setattr, local, "value", "mine")
        for thread in threads:
            thread.join()
        assert context.run(getattr, local, "value") == "mine"
