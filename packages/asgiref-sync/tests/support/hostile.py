"""Exceptions and values from user code that violate common assumptions."""

import asyncio
import dataclasses


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """A frozen dataclass: assigning any attribute raises, even `__traceback__`."""

    name: str = "x"


class Slotted(Exception):
    __slots__ = ("name",)


class RefusesAttributes(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(f"no {name} here")

    def __delattr__(self, name):
        raise AttributeError(f"no {name} here")


class RefusesTraceback(Exception):
    @property
    def __traceback__(self):
        raise AttributeError("no traceback")

    def with_traceback(self, traceback):
        raise TypeError("no traceback")


class RefusesNotes(Exception):
    def add_note(self, note):
        raise TypeError("no notes")


class Unreadable(Exception):
    def __getattribute__(self, name):
        raise AttributeError(name)


class LiesAboutItsClass(Exception):
    @property
    def __class__(self):
        return asyncio.CancelledError


class _Reluctant:
    """A mixin for exceptions: every method that Python code may call raises."""

    def __repr__(self):
        raise ValueError("no repr")

    __str__ = __repr__

    def __eq__(self, other):
        raise ValueError("no equality")

    __ne__ = __eq__

    def __hash__(self):
        raise ValueError("no hash")

    def __bool__(self):
        raise ValueError("no truth")

    def __len__(self):
        raise ValueError("no length")


class Reluctant(_Reluctant, Exception):
    pass


class ReluctantValue(_Reluctant):
    def __getattr__(self, name):
        raise ValueError(f"no {name}")


class ReluctantBase(_Reluctant, BaseException):
    pass


class _AnswersToAnyName(type):
    def __getattr__(cls, name):
        return cls()


class _RefusesAnyName(type):
    def __getattr__(cls, name):
        raise KeyError(name)


class Expression(metaclass=_AnswersToAnyName):
    """An attribute that its class creates for any name, as query builders and mocks do."""


class Registered(metaclass=_RefusesAnyName):
    """Its class looks up names in a table, and raises an error other than AttributeError."""


class Unhashable(Exception):
    def __eq__(self, other):
        return True

    __hash__ = None


class False_(Exception):
    def __bool__(self):
        return False


class NeedsTwoArguments(Exception):
    """An exception that cannot be copied, pickled or created by raising its class."""

    def __init__(self, one, two):
        super().__init__()


def _chained():
    error = ValueError("end")
    error.__cause__ = error.__context__ = KeyError("cause")
    return error


def _in_a_circle():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    return first


#: Maps a name to a function that creates an exception, which must reach the caller unchanged.
EXCEPTIONS = {
    "plain": ValueError,
    "frozen": Frozen,
    "slotted": Slotted,
    "refuses attributes": RefusesAttributes,
    "refuses a traceback": RefusesTraceback,
    "refuses notes": RefusesNotes,
    "unreadable": Unreadable,
    "lies about its class": LiesAboutItsClass,
    "reluctant": Reluctant,
    "reluctant base": ReluctantBase,
    "unhashable": Unhashable,
    "false": False_,
    "needs two arguments": lambda: NeedsTwoArguments(1, 2),
    "chained": _chained,
    "in a circle": _in_a_circle,
    "group": lambda: ExceptionGroup("group", [ValueError(), Frozen()]),
    "base group": lambda: BaseExceptionGroup("group", [KeyboardInterrupt(), Reluctant()]),
    "system exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "stop async iteration": lambda: StopAsyncIteration(1),
    "timeout": TimeoutError,
    "invalid state": asyncio.InvalidStateError,
    "runtime error": lambda: RuntimeError("Event loop is closed"),
    "cancelled": asyncio.CancelledError,
}
