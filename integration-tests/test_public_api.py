"""Public names and signatures match the snapshot, and accept calls written for asgiref 3.13.0."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DESCRIBE = HERE / "support" / "describe_api.py"


@dataclass(frozen=True, slots=True)
class Described:
    """One parsed line of a description."""

    path: str
    parameters: ast.arguments | None
    is_async: bool
    keys: frozenset[str] | None


def parse(line: str) -> Described:
    found = re.fullmatch(r"([\w.]+)(\(.*\))?( async)?(?: \{(.*)\})?", line)
    assert found, line
    path, parameters, is_async, keys = found.groups()
    arguments = None
    if parameters is not None:
        [function] = ast.parse(f"def function{parameters}: pass").body
        assert isinstance(function, ast.FunctionDef)
        arguments = function.args
    return Described(
        path,
        arguments,
        is_async is not None,
        None if keys is None else frozenset(keys.split(", ")),
    )


def positional(arguments: ast.arguments) -> dict[str, str | None]:
    """Return the positional parameters in order, with the text of their defaults."""
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    defaults = [ast.unparse(default) for default in arguments.defaults]
    return dict(zip(names, [None] * (len(names) - len(defaults)) + defaults, strict=True))


def keyword_only(arguments: ast.arguments) -> dict[str, str | None]:
    defaults = (None if each is None else ast.unparse(each) for each in arguments.kw_defaults)
    return dict(zip((each.arg for each in arguments.kwonlyargs), defaults, strict=True))


def accepts_every_call(ours: ast.arguments, theirs: ast.arguments, *, named: bool) -> bool:
    """Return whether each call that fits their parameters fits ours and means the same.

    ``named`` is false for methods that a syntax calls: it never passes parameters by name.
    """
    our_positional, their_positional = positional(ours), positional(theirs)
    shared = list(our_positional.items())[: len(their_positional)]
    added = [*list(our_positional.items())[len(their_positional) :]]
    our_keywords, their_keywords = keyword_only(ours), keyword_only(theirs)
    new_keywords = {name: our_keywords[name] for name in our_keywords.keys() - their_keywords}
    return (
        len(shared) == len(their_positional)
        and (not named or [name for name, _ in shared] == list(their_positional))
        and all(
            theirs_default is None or theirs_default == ours_default
            for (_, ours_default), theirs_default in zip(
                shared, their_positional.values(), strict=True
            )
        )
        and all(default is not None for _, default in added)
        and all(
            name in our_keywords and default in (None, our_keywords[name])
            for name, default in their_keywords.items()
        )
        and all(default is not None for default in new_keywords.values())
        and (ours.vararg is not None or theirs.vararg is None)
        and (ours.kwarg is not None or theirs.kwarg is None)
    )


def read(name: str) -> dict[str, Described]:
    lines = (HERE / name).read_text("utf-8").splitlines()
    return {described.path: described for described in map(parse, lines)}


THEIRS = read("reference_api.txt")


@pytest.fixture(scope="module")
def description() -> str:
    """Our API, described in a separate process whose modules pytest has not touched."""
    done = subprocess.run([sys.executable, DESCRIBE], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def ours(description: str) -> dict[str, Described]:
    return {described.path: described for described in map(parse, description.splitlines())}


def test_the_public_api_is_the_one_in_the_snapshot(description: str) -> None:
    # After an intended change, update the snapshot as support/describe_api.py says.
    expected = (HERE / "public_api.txt").read_text("utf-8")
    assert description.splitlines() == expected.splitlines()


@pytest.mark.parametrize("path", THEIRS)
def test_every_name_from_asgiref_3_13_accepts_the_same_calls(
    path: str, ours: dict[str, Described]
) -> None:
    theirs = THEIRS[path]
    assert path in ours
    mine = ours[path]
    assert mine.is_async is theirs.is_async
    if theirs.parameters is not None:
        assert mine.parameters is not None
        by_syntax = path.rpartition(".")[2].startswith("__")
        assert accepts_every_call(mine.parameters, theirs.parameters, named=not by_syntax)
    if theirs.keys is not None:
        assert mine.keys is not None
        their_names = {key.removesuffix("?") for key in theirs.keys}
        assert their_names <= {key.removesuffix("?") for key in mine.keys}
        # Our types may make a required key optional, but not an optional key required.
        required = {key for key in mine.keys if not key.endswith("?")}
        assert required <= theirs.keys


def parameters_of(definition: str) -> ast.arguments:
    described = parse(f"name({definition})")
    assert described.parameters is not None
    return described.parameters


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [
        ("a, b=1", "a, b=1", True),
        ("a=0, b=1, *, c=2", "a, b=1", True),
        ("a, b=2", "a, b=1", False),
        ("a, c=1", "a, b=1", False),
        ("b, a", "a, b", False),
        ("a", "a, b=1", False),
        ("a, b, c", "a, b", False),
        ("a, *, b", "a", False),
        ("a, *, b=1", "a, *, b=1", True),
        ("a", "a, *args", False),
        ("a, *args, **kwargs", "a, **kwargs", True),
    ],
)
def test_the_comparison_detects_changes_that_would_break_a_call(
    mine: str, theirs: str, fits: bool
) -> None:
    assert accepts_every_call(parameters_of(mine), parameters_of(theirs), named=True) is fits
