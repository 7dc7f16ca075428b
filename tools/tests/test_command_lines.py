"""Every program has ``--version``, and describes each option with its unit and default."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tools", "benchmarks", "soak", "dependents", "demo", "examples", "packages", "docs")
GENERATED = {".tox", ".demo", "build", "dist", "_build", "tests"}
NEED_NO_VALUE = {"store_true", "store_false", "store_const", "count", "version", "help"}
UNITS = {
    "BYTES",
    "CALLS",
    "INSTANCES",
    "MESSAGES",
    "PARTITIONS",
    "PORT",
    "PROCESSES",
    "REPLICAS",
    "ROUNDS",
    "SECONDS",
    "TIMES",
}


def python_files() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    kept = [path for path in found if not set(path.relative_to(ROOT).parts) & GENERATED]
    return sorted([ROOT / "run_tests.py", *kept])


def calls_of(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
            yield node


def text_of(node: ast.AST | None) -> str:
    """Return the text of a string, or the literal parts of an f-string."""
    words = ast.walk(node) if node else ()
    return " ".join(str(each.value) for each in words if isinstance(each, ast.Constant))


def complaint_about(call: ast.Call) -> str | None:
    """Return what a call to ``add_argument`` lacks, if anything."""
    given = {word.arg: word.value for word in call.keywords}
    action, shown = text_of(given.get("action")), text_of(given.get("help"))
    if action == "version":
        return None  # argparse describes it
    if not shown:
        return "no description"
    option = text_of(call.args[0]).startswith("-")
    if option and action not in NEED_NO_VALUE and "required" not in given:
        if "default" not in shown:
            return "no default in its description"
        if ast.unparse(given.get("type", ast.Constant(None))) in ("int", "float"):
            return None if text_of(given.get("metavar")) in UNITS else "no unit as its metavar"
    return None


PARSERS = {
    path: tree
    for path in python_files()
    if "argparse" in (source := path.read_text("utf-8")) or "make_parser" in source
    if list(calls_of(tree := ast.parse(source), "add_argument"))
}


@pytest.mark.parametrize("path", PARSERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_argument_has_a_description_with_its_unit_and_default(path: Path) -> None:
    complaints = [
        f"{ast.unparse(call.args[0])}: {complaint}"
        for call in calls_of(PARSERS[path], "add_argument")
        if (complaint := complaint_about(call))
    ]

    assert complaints == []


@pytest.mark.parametrize("path", PARSERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_parser_has_a_version(path: Path) -> None:
    made = [call for call in calls_of(PARSERS[path], "ArgumentParser") if not call_hides_help(call)]
    versions = [
        call
        for call in calls_of(PARSERS[path], "add_argument")
        if text_of(call.args[0]) == "--version"
    ]

    assert len(versions) == len(made)


def call_hides_help(call: ast.Call) -> bool:
    """Whether a parser only lends its arguments to others and has no --help of its own."""
    return any(word.arg == "add_help" for word in call.keywords)


def test_the_parsers_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in PARSERS}

    assert {
        "run_tests.py",
        "demo/app/options.py",
        "packages/asgiref-postgres/src/asgiref/postgres/__main__.py",
        "tools/command_line.py",
        "benchmarks/run.py",
        "soak/run.py",
        "dependents/__main__.py",
        "examples/irc_chatbot/chatbot.py",
    } < names


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("'--port', type=int, metavar='PORT', help='a port (default: %(default)s)'", None),
        ("'--port', type=int, metavar='PORT'", "no description"),
        ("'--port', type=int, metavar='PORT', help='a port'", "no default in its description"),
        ("'--port', type=int, help='a port (default: 1)'", "no unit as its metavar"),
        ("'--port', type=int, required=True, help='a port'", None),
        ("'--quick', action='store_true'", "no description"),
        ("'--quick', action='store_true', help='do less'", None),
        ("'name'", "no description"),
        ("'name', help=f'one of {names}'", None),
    ],
)
def test_what_is_missing_in_an_argument_is_found(argument: str, complaint: str | None) -> None:
    [call] = calls_of(ast.parse(f"parser.add_argument({argument})"), "add_argument")

    assert complaint_about(call) == complaint


@pytest.mark.parametrize(
    "program",
    [
        "run_tests.py",
        "demo/run.py",
        "tools/install_dist.py",
        "tools/build_dists.py",
        "tools/verify_types.py",
        "tools/release.py",
        "tools/assemble_notes.py",
        "benchmarks/run.py",
    ],
)
def test_a_program_of_this_repository_tells_the_version_of_the_checkout(program: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / program, "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith(f"{Path(program).name} of asgiref 3.")
