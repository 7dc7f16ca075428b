"""The docstring of a public function or method describes every parameter, under `Args:`."""

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, is_typeddict

import pytest
from repository import modules

# ASGI's own three, which the protocols describe, and parameters that are passed on.
DESCRIBED_ELSEWHERE = {"self", "cls", "args", "kwargs", "fn", "scope", "receive", "send"}

# Methods with public names that only the bridge calls.
FOR_THE_BRIDGE = {"put", "ended"}


def described(text: str | None) -> set[str]:
    return set(re.findall(r"^ +(\w+): ", text or "", re.M))


def undescribed(value: Any, *texts: str | None) -> list[str]:
    parameters = set(inspect.signature(value).parameters) - DESCRIBED_ELSEWHERE
    return sorted(parameters - set().union(*map(described, texts)))


def methods(value: type) -> Iterator[tuple[str, Any]]:
    for owner in value.__mro__:
        if owner.__module__.startswith("asgiref."):
            for name, method in vars(owner).items():
                if not name.startswith("_") and inspect.isfunction(method):
                    yield name, method


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield our functions and classes, except records and types: their fields have entries."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        ours = getattr(value, "__module__", "").startswith("asgiref.")
        is_record = (
            hasattr(value, "__dataclass_fields__")
            or hasattr(value, "_fields")
            or getattr(value, "_is_protocol", False)
        )
        if ours and callable(value) and not is_typeddict(value) and not is_record:
            yield name, value


@pytest.mark.parametrize("name", modules())
def test_every_parameter_is_described(name: str) -> None:
    found = {}
    for path, value in public(importlib.import_module(name)):
        if isinstance(value, type):
            for method, function in methods(value):
                if method not in FOR_THE_BRIDGE:
                    found[f"{path}.{method}"] = undescribed(function, function.__doc__)
            if not issubclass(value, Exception):
                found[path] = undescribed(value, value.__doc__)
        else:
            found[path] = undescribed(value, value.__doc__)

    assert {path: missing for path, missing in found.items() if missing} == {}
