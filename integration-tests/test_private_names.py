"""No distribution, and none of the programs around them, uses a private name of another one.

The test reads sources. An import from another portion must name the portion itself and names in
its ``__all__``. A private attribute must be defined in the portion that uses it, unless no other
portion defines it either: then it belongs to the standard library, which is not the subject here.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from distributions import ALL, EXTRAS, META, ROOT

PORTIONS = {each.name: each.folder / "src" / "asgiref" for each in (*ALL, *EXTRAS)}
PROGRAMS = ("benchmarks", "demo", "examples", "soak")


def modules_in(folder: Path) -> list[ast.Module]:
    return [ast.parse(path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))]


@cache
def modules_of(name: str) -> list[ast.Module]:
    return modules_in(PORTIONS[name])


@cache
def public_names() -> dict[str, frozenset[str]]:
    """Return the ``__all__`` of each public module, by the module's name."""
    files = [path for each in PORTIONS.values() for path in each.glob("*/__init__.py")]
    return {f"asgiref.{path.parent.name}": frozenset(exported_by(path)) for path in files}


def exported_by(path: Path) -> list[str]:
    [value] = (
        node.value
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(value)
    return names


def own_modules(name: str) -> set[str]:
    return {f"asgiref.{path.parent.name}" for path in PORTIONS[name].glob("*/__init__.py")}


def private_imports(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Yield each name that is imported or read from another portion and is not public."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="asgiref", level=0):
                read = [(f"asgiref.{alias.name}", None) for alias in node.names]
            case ast.ImportFrom(module=str(module), level=0):
                read = [(module, alias.name) for alias in node.names]
            case ast.Import():
                read = [(alias.name, None) for alias in node.names if "." in alias.name]
            case ast.Attribute(value=ast.Attribute(value=ast.Name("asgiref"), attr=module)):
                read = [(f"asgiref.{module}", node.attr)]
            case _:
                continue
        yield from (f"{module}: {name}" for module, name in read if is_private(module, name, own))


def is_private(module: str, name: str | None, own: set[str]) -> bool:
    if not module.startswith("asgiref.") or ".".join(module.split(".")[:2]) in own:
        return False
    return name not in (None, *public_names().get(module, ())) or module not in public_names()


def private_attributes(modules: Iterable[ast.Module]) -> set[str]:
    """Return the private attributes that the code reads, also by `getattr` with a literal name."""
    read = set()
    for node in (node for tree in modules for node in ast.walk(tree)):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()):
                read.add(name)
            case ast.Call(func=ast.Name("getattr"), args=[_, ast.Constant(str(name)), *_]):
                read.add(name)
    return {name for name in read if name.startswith("_") and not name.endswith("__")}


def defined_names(modules: Iterable[ast.Module]) -> set[str]:
    """Return the names of functions, classes, variables and attributes that the code defines."""
    defined = set()
    for node in (node for tree in modules for node in ast.walk(tree)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                defined.add(node.name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Assign(targets=[ast.Name("__slots__")], value=value):
                slots = (each for each in ast.walk(value) if isinstance(each, ast.Constant))
                defined.update(str(each.value) for each in slots)
    return defined


def of_another_distribution(attributes: set[str], name: str) -> list[str]:
    """Return those that other distributions define and this one does not."""
    others = {
        each for other in PORTIONS if other != name for each in defined_names(modules_of(other))
    }
    return sorted(attributes & others - defined_names(modules_of(name)))


@pytest.mark.parametrize("name", PORTIONS)
def test_a_distribution_imports_only_public_names_of_others(name: str) -> None:
    own = own_modules(name)
    assert [found for tree in modules_of(name) for found in private_imports(tree, own)] == []


@pytest.mark.parametrize("name", PORTIONS)
def test_a_distribution_reads_no_private_attribute_of_another(name: str) -> None:
    assert of_another_distribution(private_attributes(modules_of(name)), name) == []


@pytest.mark.parametrize("folder", PROGRAMS)
def test_the_programs_around_the_distributions_import_only_public_names(folder: str) -> None:
    modules = modules_in(ROOT / folder)
    assert [found for tree in modules for found in private_imports(tree, set())] == []


@pytest.mark.parametrize(
    "planted",
    [
        "from asgiref.sync._blocking import CurrentThreadExecutor",
        "from asgiref.sync import _blocking",
        "from asgiref.sync import sys",
        "import asgiref.sync._blocking",
        "import asgiref.sync\nprint(asgiref.sync._blocking)",
        "from asgiref import _nothing",
    ],
)
def test_a_private_import_is_found(planted: str) -> None:
    own = own_modules(META.name)
    assert len(list(private_imports(ast.parse(planted), own))) == 1


@pytest.mark.parametrize(
    "permitted",
    [
        "from asgiref.sync import sync_to_async",
        "import asgiref.sync\nasgiref.sync.sync_to_async",
        "from asgiref import sync",
        "from asgiref.timeout import _TimeoutState",
        "from ._private import anything",
    ],
)
def test_public_imports_and_own_private_imports_are_permitted(
    permitted: str,
) -> None:
    assert list(private_imports(ast.parse(permitted), own_modules(META.name))) == []


@pytest.mark.parametrize("planted", ["print(server.{})", "getattr(server, '{}', None)"])
def test_a_private_attribute_of_another_distribution_is_found(planted: str) -> None:
    of_server = defined_names(modules_of("asgiref-server"))
    of_typing = defined_names(modules_of("asgiref-typing"))
    private = min(name for name in of_server - of_typing if re.match("_[a-z]", name))

    read = private_attributes([ast.parse(planted.format(private))])

    assert of_another_distribution(read, "asgiref-typing") == [private]
    assert of_another_distribution(read, "asgiref-server") == []
