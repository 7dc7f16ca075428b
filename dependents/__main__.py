"""Run one suite, and write its row and the page: ``python -m dependents ENVIRONMENT FOLDER``.

The environment's name ends with that of the suite: ``py311-dependents-flask``. The program creates
the folder and downloads and installs into it. The status is 0 only if every test that passes with
asgiref also passes with our wheels.
"""

import sys
from pathlib import Path

from tools.command_line import make_parser
from tools.install_dist import ROOT

from .page import COLUMNS, cells, named_tests, page
from .projects import Project, SuiteError, read_projects
from .results import Row, put_row
from .trial import try_project

RESULTS = ROOT / "dependents" / "results.json"
PAGE = ROOT / "docs" / "dependents.md"


def report(row: Row) -> int:
    """Print the content of a row; return the exit status."""
    print(*(f"{name}: {cell}" for name, cell in zip(COLUMNS, cells(row), strict=True)), sep="; ")
    print(*named_tests([row]), sep="\n")
    return 1 if row.worse else 0


def project_named(environment: str) -> Project:
    """Return the project after which a tox environment is named."""
    name, projects = environment.rpartition("dependents-")[2], read_projects()
    if name not in projects:
        sys.exit(f"no suite is named {name}; there are {', '.join(projects)}")
    return projects[name]


def main(environment: str, folder: str, archive: str | None = None) -> int:
    project, place = project_named(environment), Path(folder).resolve()
    if place.exists():
        sys.exit(f"{place} exists: name a folder that does not exist")
    place.mkdir(parents=True)
    try:
        row = try_project(project, place, Path(archive).resolve() if archive else None)
    except SuiteError as error:
        sys.exit(f"{project.name}: {error}")
    put_row(row, RESULTS, PAGE, page)
    return report(row)


if __name__ == "__main__":
    parser = make_parser("run one suite, and write its row and the page")
    parser.prog = "python -m dependents"
    parser.add_argument("environment", help="the tox environment, as in py311-dependents-flask")
    parser.add_argument("folder", help="a folder for the downloads, which must not exist")
    parser.add_argument(
        "--archive", metavar="FILE", help="your own PROJECT-VERSION.tar.gz (default: fetched)"
    )
    sys.exit(main(**vars(parser.parse_args())))
