"""Exceptions, strings and bytes whose classes break common assumptions."""


class Frozen(Exception):
    """Rejects attributes, like `@dataclass(frozen=True)`."""

    def __setattr__(self, name, value):
        raise AttributeError(f"cannot assign to {name}")


class Reluctant(Exception):
    def with_traceback(self, traceback):
        raise RuntimeError("no traceback for me")


class Unreadable(Exception):
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


class UnreadableExit(BaseException):
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


class Empty(Exception):
    """An exception whose truth value is false."""

    def __len__(self):
        return 0


class Equal(Exception):
    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


class NeedsArguments(Exception):
    def __init__(self, first, second):
        super().__init__()


class HostileStr(str):
    """A str whose methods lie or raise."""

    def _refuse(self, *args, **kwargs):
        raise RuntimeError("not for you")

    __eq__ = __hash__ = __len__ = __str__ = __repr__ = __iter__ = __contains__ = _refuse
    encode = strip = lower = isprintable = replace = split = _refuse


class HostileBytes(bytes):
    def _refuse(self, *args, **kwargs):
        raise RuntimeError("not for you")

    __eq__ = __hash__ = __len__ = __bytes__ = __getitem__ = __iter__ = __bool__ = _refuse


EXCEPTIONS = {
    "frozen": Frozen("culprit"),
    "reluctant": Reluctant("culprit"),
    "unreadable": Unreadable("culprit"),
    "empty": Empty("culprit"),
    "equal": Equal("culprit"),
    "arguments": NeedsArguments(1, 2),
    "group": ExceptionGroup("culprit", [ValueError(), Frozen()]),
    "stop async iteration": StopAsyncIteration("culprit"),
    "recursion": RecursionError("culprit"),
    "memory": MemoryError("culprit"),
    "oserror": OSError("culprit"),
    "connection reset": ConnectionResetError("culprit"),
    "timeout": TimeoutError("culprit"),
}
BASE_EXCEPTIONS = {
    "system exit": SystemExit("culprit"),
    "interrupt": KeyboardInterrupt("culprit"),
    "generator exit": GeneratorExit("culprit"),
    "stop iteration": StopIteration("culprit"),
    "unreadable": UnreadableExit("culprit"),
    "base group": BaseExceptionGroup("culprit", [SystemExit()]),
}
