"""Every program has ``--version``, and describes each option with its unit and default."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tools", "benchmarks", "soak", "dependents", "demo", "examples", "packages", "docs")
MODULES = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PROGRAMS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "run_tests.py", *MODULES)
    if not {"tests", "build", "_build"} & {*path.parts}
    and "add_argument(" in path.read_text("utf-8")
}
FAULTY = """
parser = argparse.ArgumentParser()
parser.add_argument("--right", type=int, metavar="PORT", help="a port (default: 1)")
parser.add_argument("--required", type=int, required=True, help="a port")
parser.add_argument("--quick", action="store_true", help="do less")
parser.add_argument("name")
parser.add_argument("--port", type=int, metavar="PORT")
parser.add_argument("--path", help="a path")
parser.add_argument("-p", type=int, metavar="N", help="processes (default: 1)")
"""


def text_of(node: ast.AST | None) -> str:
    """Return the text of a string, or the literal parts of an f-string."""
    parts = ast.walk(node) if node else ()
    return " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))


def complaints_about(source: str) -> Iterator[str]:
    """Yield what the descriptions of a program's arguments lack."""
    parsers = versions = 0
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        given = {word.arg: word.value for word in call.keywords}
        # A parser without --help only lends its arguments to others.
        parsers += ast.unparse(call.func).endswith("ArgumentParser") and "add_help" not in given
        if not ast.unparse(call.func).endswith("add_argument"):
            continue
        name, action, shown = (
            text_of(each) for each in (call.args[0], *map(given.get, ("action", "help")))
        )
        versions += name == "--version"
        takes_value = name[0] == "-" and action in ("", "append") and "required" not in given
        is_number = ast.unparse(given.get("type", call)) in ("int", "float")
        if action != "version" and not shown:
            yield f"{name}: no description"
        elif takes_value and "default" not in shown:
            yield f"{name}: no default in its description"
        elif takes_value and is_number and len(text_of(given.get("metavar"))) < len("PORT"):
            yield f"{name}: no unit as its metavar"
    if versions != parsers:
        yield f"{parsers} parsers, {versions} of them with --version"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_argument_has_a_description_with_its_unit_and_default(program: str) -> None:
    assert [*complaints_about(PROGRAMS[program])] == []


def test_the_programs_of_every_folder_are_found() -> None:
    assert {path.partition("/")[0] for path in PROGRAMS} >= {*FOLDERS} - {"docs"} | {"run_tests.py"}


def test_every_fault_of_a_command_line_is_found() -> None:
    assert [*complaints_about(FAULTY)] == [
        "name: no description",
        "--port: no description",
        "--path: no default in its description",
        "-p: no unit as its metavar",
        "1 parsers, 0 of them with --version",
    ]


@pytest.mark.parametrize("program", ["run_tests.py", "demo/run.py", "tools/release.py"])
def test_a_program_of_this_repository_tells_the_version_of_the_checkout(program: str) -> None:
    command = [sys.executable, str(ROOT / program), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{Path(program).name} of asgiref 3.")
