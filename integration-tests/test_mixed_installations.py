"""Importing a component next to asgiref 3.13 itself warns, and names the repair command."""

import re
from collections.abc import Callable

import pytest
import reference
from distributions import COMPONENTS, Distribution
from environments import FROM_DIST, Environment

every_component = pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.name)


@pytest.fixture(scope="module")
def mixed(make_environment: Callable[[str], Environment]) -> Environment:
    """Every component, and then asgiref 3.13, as after `pip install django`."""
    environment = make_environment("mixed")
    environment.install_ours(*(component.name for component in COMPONENTS))
    environment.pip("install", f"asgiref=={reference.VERSION}")
    return environment


def warnings_of(environment: Environment, program: str) -> list[str]:
    """Return the program's warnings on stderr, with Python's default filters."""
    done = environment.attempt("-c", program)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "Warning" in line]


@every_component
def test_importing_a_component_names_both_distributions_and_the_repair_command(
    component: Distribution, mixed: Environment
) -> None:
    [warning] = warnings_of(mixed, f"import {component.module}")

    assert f"RuntimeWarning: asgiref {reference.VERSION} is installed together with" in warning
    assert re.search(r"together with asgiref-\w+, which", warning)
    assert '`pip install "asgiref~=3.13.100"`' in warning
    assert "--find-links" in warning


def test_a_process_gets_one_warning_for_any_number_of_components(
    mixed: Environment,
) -> None:
    program = "\n".join(f"import {component.module}" for component in COMPONENTS)

    assert len(warnings_of(mixed, program)) == 1


def test_the_warning_points_at_the_line_that_imports(mixed: Environment) -> None:
    (mixed.path / "page.py").write_text("import json\nimport asgiref.local\n", "utf-8")

    assert "page.py:2: RuntimeWarning" in mixed.attempt(mixed.path / "page.py").stderr


@every_component
def test_the_import_fails_every_time_if_warnings_are_errors(
    component: Distribution, mixed: Environment
) -> None:
    program = (
        "import importlib\n"
        "for attempt in range(2):\n"
        "    try:\n"
        f"        importlib.import_module('{component.module}')\n"
        "    except RuntimeWarning as error:\n"
        "        print(str(error)[:14])\n"
    )

    assert mixed.run("-W", "error", "-c", program).split("\n")[:2] == ["asgiref 3.13.0"] * 2


def test_installing_asgiref_over_all_components_warns_and_the_command_repairs_it(
    fresh_environment: Environment,
) -> None:
    fresh_environment.install_ours("asgiref")
    fresh_environment.pip("install", f"asgiref=={reference.VERSION}")
    [warning] = warnings_of(fresh_environment, "import asgiref.sync")

    command = re.search(r'`pip install "([^"]+)"`', warning)
    assert command
    fresh_environment.pip("install", *FROM_DIST, command[1])

    assert warnings_of(fresh_environment, "import asgiref.sync") == []
    assert fresh_environment.run("-c", "import asgiref; print(asgiref.__version__)").startswith(
        "3.13.1"
    )
