"""Run the doctests of an installed package: ``python tools/doctest_package.py PACKAGE_FOLDER``.

The folder only names the module (its ``tool.flit.module``); the examples run against the installed
one, private modules included, because that is where the text of most public names stands.
"""

import doctest
import importlib
import pkgutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType


def modules_of(name: str) -> list[ModuleType]:
    """The module and all below it, but no other distribution's portion of ``asgiref``."""
    top = importlib.import_module(name)
    if name == "asgiref":
        own_files = Path(str(top.__file__)).parent.glob("[!_]*.py")
        below = [f"asgiref.{path.stem}" for path in own_files]
    else:
        below = [found.name for found in pkgutil.walk_packages(top.__path__, f"{name}.")]
    return [top, *map(importlib.import_module, sorted(below))]


def main(folder: str) -> None:
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text("utf-8"))
    name = project["tool"]["flit"]["module"]["name"]
    failed = attempted = 0
    for module in modules_of(name):
        if "site-packages" not in str(module.__file__):
            sys.exit(f"{module.__name__} is not the installed one: {module.__file__}")
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        failed, attempted = failed + result.failed, attempted + result.attempted
    print(f"doctests of {name}: {attempted - failed} passed, {failed} failed")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
