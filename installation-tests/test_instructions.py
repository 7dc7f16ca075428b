"""Every installation instruction on the pages works as typed, in a separate environment."""

from pathlib import Path

import pytest
from instructions import RECORD, ROOT, Instruction, instructions, record
from terminal import Terminal


def by_text() -> dict[str, list[Instruction]]:
    """Return the instructions, grouped by text, without the one that builds the wheels."""
    found: dict[str, list[Instruction]] = {}
    for instruction in instructions():
        if not instruction.builds_wheels:
            found.setdefault(instruction.text, []).append(instruction)
    return found


@pytest.mark.parametrize("same", by_text().values(), ids=lambda same: str(same[0]))
def test_instructions_work_as_typed_in_an_empty_environment(
    same: list[Instruction], request: pytest.FixtureRequest
) -> None:
    needs_git = "git+file" in same[0].text
    terminal: Terminal = request.getfixturevalue("committed" if needs_git else "terminal")

    terminal.type(same[0].commands)


def test_the_build_instruction_makes_a_wheel_of_every_package(built_clone: Path) -> None:
    packages = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    built = {path.name.partition("-")[0] for path in built_clone.glob("dist/*.whl")}

    assert built == {name.replace("-", "_") for name in packages}


def test_the_pages_build_wheels_with_the_same_commands() -> None:
    assert len({each.text for each in instructions() if each.builds_wheels}) == 1


def test_the_recorded_instructions_match_the_pages() -> None:
    assert RECORD.read_text("utf-8") == record()
