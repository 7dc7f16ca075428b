"""Run the doctests of an installed package: ``python tools/doctest_package.py PACKAGE_FOLDER``.

The folder only names the distribution; the examples run against its installed files, including
private modules, which contain the docstrings of most public names.
"""

import doctest
import importlib
import importlib.metadata
import sys
import tomllib
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # `python -I` leaves it out

from command_line import make_parser


def installed_modules(distribution: str) -> list[str]:
    """Return the modules that this distribution installed, without those of other portions."""
    files = importlib.metadata.files(distribution) or []
    modules = [path.with_suffix("").parts for path in files if path.suffix == ".py"]
    if not modules:
        sys.exit(f"{distribution} is not installed from a wheel")
    return sorted(".".join(module).removesuffix(".__init__") for module in modules)


def main(folder: str) -> None:
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text("utf-8"))["project"]
    failed = attempted = 0
    for name in installed_modules(project["name"]):
        result = doctest.testmod(importlib.import_module(name))
        failed, attempted = failed + result.failed, attempted + result.attempted
    print(f"doctests of {project['name']}: {attempted - failed} passed, {failed} failed")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    parser = make_parser("run the doctests of an installed package")
    parser.add_argument("folder", metavar="PACKAGE_FOLDER", help="as in packages/asgiref-sync")
    main(parser.parse_args().folder)
