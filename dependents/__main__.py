"""Run one suite, and write its row and the page: ``python -m dependents ENVIRONMENT FOLDER``.

The environment's name ends with that of the suite: ``py311-dependents-flask``. The program creates
the folder and downloads and installs into it. The status is 0 only if every test that passes with
asgiref also passes with our wheels.
"""

import sys
from pathlib import Path

from tools.command_line import make_parser
from tools.install_dist import ROOT

from .projects import SuiteError, read_projects
from .results import COLUMNS, put_row
from .trial import try_project

PROJECTS = ROOT / "dependents" / "projects.toml"
RESULTS = ROOT / "dependents" / "results.json"
PAGE = ROOT / "docs" / "dependents.md"


def main(environment: str, folder: Path, archive: Path | None = None) -> int:
    """Run the suite; print its row and return the exit status."""
    name, projects = environment.rpartition("dependents-")[2], read_projects(PROJECTS)
    if name not in projects:
        sys.exit(f"no suite is named {name}; there are {', '.join(projects)}")
    try:
        folder.mkdir(parents=True)
        row = try_project(projects[name], folder.resolve(), archive and archive.resolve())
    except (SuiteError, FileExistsError) as error:
        sys.exit(f"{name}: {error}")
    put_row(row, RESULTS, PAGE)
    print("; ".join(map(": ".join, zip(COLUMNS, row.cells(), strict=True))))
    print(*(f"{title}: {line}" for title, line in row.named_tests()), sep="\n")
    return 1 if row.worse else 0


if __name__ == "__main__":
    parser = make_parser("run one suite, and write its row and the page")
    parser.prog = "python -m dependents"
    parser.add_argument("environment", help="the tox environment, as in py311-dependents-flask")
    parser.add_argument("folder", type=Path, help="a new folder for the downloads")
    parser.add_argument("--archive", type=Path, help="your PROJECT-1.0.tar.gz (default: fetched)")
    sys.exit(main(**vars(parser.parse_args())))
