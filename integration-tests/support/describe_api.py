"""Describe the public API of the installed asgiref: one line a name, with its parameters.

    python integration-tests/support/describe_api.py > integration-tests/public_api.txt

``public_api.txt`` is ours, compared at every run, so that no change goes unseen.
``reference_api.txt`` is what the same program said of asgiref 3.13.0.

Parameters are told by name, order, kind and default. Annotations are not: their text differs
between versions of Python, and the type checkers watch them. A key of a TypedDict that may be
missing ends in ``?``.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_origin, is_typeddict

from distributions import MODULES

# The special methods that a user calls, by one syntax or another.
SPECIAL = {"__call__", "__get__", "__enter__", "__exit__", "__aenter__", "__aexit__"}

# Taken from the running Python where it has them, so it names their parameters.
BORROWED = {"asgiref.sync.iscoroutinefunction", "asgiref.sync.markcoroutinefunction"}


def public_names(module: ModuleType) -> list[str]:
    """What the module declares as public; where it does not, what its own text defines."""
    declared = getattr(module, "__all__", None)
    if declared is not None:
        return sorted(declared)
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    defined = {name for statement in tree.body for name in _bound(statement)}
    return sorted(name for name in defined if not name.startswith("_") or name == "__version__")


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))
    elif isinstance(statement, ast.If):
        for inner in (*statement.body, *statement.orelse):
            yield from _bound(inner)


def default_text(default: object) -> str:
    if default is None or isinstance(default, bool | int | float | str | bytes | tuple):
        return repr(default)
    return "..."  # an object, or one that is made for each call


def parameters_text(signature: inspect.Signature) -> str:
    """The parameters without annotations, as they would be written in a ``def``."""
    plain = [
        each.replace(
            annotation=inspect.Parameter.empty,
            default=each.default
            if each.default is inspect.Parameter.empty
            else _Literal(default_text(each.default)),
        )
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(plain))


class _Literal:
    """Something whose repr is the text it was made of."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def callable_text(value: object) -> str:
    """``(parameters)`` of a function or class; nothing for data, aliases of types included."""
    if not callable(value) or get_origin(value) is not None:
        return ""
    try:
        text = parameters_text(inspect.signature(value))
    except (ValueError, TypeError):
        return ""
    return f"{text} async" if inspect.iscoroutinefunction(value) else text


def typeddict_text(value: type) -> str:
    required = value.__required_keys__  # type: ignore[attr-defined]
    keys = (key if key in required else f"{key}?" for key in sorted(value.__annotations__))
    return f" {{{', '.join(keys)}}}"


def own_members(value: type) -> list[str]:
    """The public members of a class, those of the standard library's base classes left out."""
    classes = [each for each in value.__mro__ if each.__module__.split(".")[0] == "asgiref"]
    names = {name for each in classes for name in vars(each)}
    return sorted(name for name in names if not name.startswith("_") or name in SPECIAL)


def describe(module: ModuleType) -> Iterator[str]:
    for name in public_names(module):
        value, path = getattr(module, name), f"{module.__name__}.{name}"
        if isinstance(value, type) and is_typeddict(value):
            yield path + typeddict_text(value)
            continue
        yield path + ("" if path in BORROWED else callable_text(value))
        if isinstance(value, type) and value.__module__.split(".")[0] == "asgiref":
            for member in own_members(value):
                yield f"{path}.{member}{callable_text(getattr(value, member))}"


def main() -> None:
    for name in MODULES:
        for line in describe(importlib.import_module(name)):
            print(line)


if __name__ == "__main__":
    main()
