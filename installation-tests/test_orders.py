"""The README's command for all components works before and after other projects are installed."""

import re

import pytest
from instructions import ROOT, Instruction, instructions
from terminal import Terminal


def section_of_readme(words: str) -> Instruction:
    """Return the README's instruction that contains `words`."""
    [found] = [each for each in instructions() if each.page == "README.md" and words in each.text]
    return found


ALL = section_of_readme('dist "asgiref~=')
ONE = section_of_readme("dist asgiref-sync\n")
BACK = section_of_readme("pip uninstall")

# A user who mixed asgiref 3.13 with a component got "en".
TRANSLATE = """\
import asyncio
import django
from django.conf import settings
from asgiref.sync import sync_to_async
from django.utils import translation

settings.configure(USE_I18N=True)
django.setup()

async def main():
    with translation.override("de"):
        print(await sync_to_async(translation.get_language)())

asyncio.run(main())
"""


def translate(terminal: Terminal) -> str:
    (terminal.clone / "translate.py").write_text(TRANSLATE, "utf-8")
    [language] = terminal.run("python -W error::RuntimeWarning translate.py")
    return language


@pytest.mark.parametrize("before", [True, False], ids=["before Django", "after Django"])
def test_all_components_replace_asgiref_before_and_after_django(
    before: bool, terminal: Terminal
) -> None:
    django = "pip install django"
    if before:
        terminal.type(ALL.commands)
        terminal.run(django)
    else:
        terminal.run(django)
        terminal.type(ALL.commands)

    [verified] = [command for command in ALL.commands if command.shown]
    terminal.type([verified])
    terminal.run("pip check")
    assert translate(terminal) == "de"


def test_the_check_fails_for_a_component_next_to_asgiref_3_13_and_the_command_repairs_it(
    terminal: Terminal,
) -> None:
    [verified] = [command for command in ALL.commands if command.shown]
    terminal.type(ONE.commands)
    terminal.run("pip install django")
    with pytest.raises(AssertionError, match=r"RuntimeWarning: asgiref 3\.\d+\.\d+ is installed"):
        terminal.type([verified])

    terminal.type(ALL.commands)

    assert translate(terminal) == "de"


def test_going_back_leaves_only_asgiref_3_13(terminal: Terminal) -> None:
    terminal.type(ALL.commands)
    terminal.type(BACK.commands)

    [listed] = terminal.run("pip list --format freeze")
    assert re.findall(r"^asgiref.*$", listed, re.M) == ["asgiref==3.13.0"]
    assert terminal.run("python -W error -c 'import asgiref.sync, asgiref.local'") == [""]


def test_going_back_uninstalls_every_distribution() -> None:
    packages = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    uninstall = BACK.commands[0].typed.split()

    assert packages <= set(uninstall)
