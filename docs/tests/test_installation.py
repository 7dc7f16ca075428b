"""The pages contain only installation instructions that `tox run -e installation` has run."""

import re
from pathlib import Path

import pytest
from instructions import (
    CONFIGURATION,
    RECORD,
    Instruction,
    instructions,
    instructions_elsewhere,
    pages,
    record,
)
from repository import PACKAGES, ROOT

# Where an image or a CI job has the wheels.
FOLDER = r"(?:\{toxinidir\}/)?ci/asgiref|/dist"

HOW_TO_RECORD = (
    "the pages' instructions differ from installation-tests/instructions.txt: run `tox run -e "
    "installation`, then `python installation-tests/support/instructions.py > "
    "installation-tests/instructions.txt`"
)


def test_every_instruction_on_a_page_is_tested() -> None:
    assert record() == RECORD.read_text("utf-8"), HOW_TO_RECORD


def test_every_installation_instruction_is_in_a_console_block() -> None:
    assert instructions_elsewhere() == []


def test_the_ci_jobs_and_images_on_the_pages_install_with_recorded_commands() -> None:
    recorded = record().replace('"', "")

    installs = [
        command.replace('"', "")
        for page in pages()
        for block in CONFIGURATION.findall(page.read_text("utf-8"))
        for command in re.findall(r"pip (install --no-index .*)", block)
    ]

    assert len(installs) > 2
    unknown = [
        each for each in installs if f"$ pip {re.sub(FOLDER, 'dist', each)}\n" not in recorded
    ]
    assert unknown == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_readme_has_a_tested_instruction(package: Path) -> None:
    page = (package / "README.md").relative_to(ROOT).as_posix()

    assert [each for each in instructions() if each.page == page]


def test_output_and_continued_lines_belong_to_their_command() -> None:
    text = "$ one\n$ two a \\\n    b\nshown\nmore\n$ three\n"

    commands = Instruction("page", "section", text).commands

    assert [(command.typed, command.shown) for command in commands] == [
        ("one", ""),
        ("two a \\\n    b", "shown\nmore"),
        ("three", ""),
    ]
