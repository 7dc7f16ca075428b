"""Describe the public API of the installed asgiref: one line per name, with its parameters.

    python integration-tests/support/describe_api.py > integration-tests/public_api.txt

``public_api.txt`` describes our API. Each test run compares it, so no change goes unnoticed.
``reference_api.txt`` is the output of the same program for asgiref 3.13.0.

The description has the name, order, kind and default of each parameter. It has no annotations:
their text differs between versions of Python, and the type checkers compare them. A key of a
TypedDict that may be missing ends in ``?``.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_origin, is_typeddict

from distributions import MODULES

# The special methods that users call through syntax.
SPECIAL = {"__call__", "__get__", "__enter__", "__exit__", "__aenter__", "__aexit__"}

# Taken from the running Python if it has them, so it defines their parameters.
BORROWED = {"asgiref.sync.iscoroutinefunction", "asgiref.sync.markcoroutinefunction"}


def public_names(module: ModuleType) -> list[str]:
    """Return the names in the module's `__all__`, or else the names that its source defines."""
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
    return "..."  # an object without a stable text


def parameters_text(signature: inspect.Signature) -> str:
    """Return the parameters as in a ``def``, without annotations."""
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
    """An object whose repr is a given text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def callable_text(value: object) -> str:
    """Return ``(parameters)`` of a function or class, and "" for data and aliases of types."""
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
    """Return the public members of a class, without those of the standard library's bases."""
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
