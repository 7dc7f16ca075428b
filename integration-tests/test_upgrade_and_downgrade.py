"""Upgrading from asgiref 3.13.0 and going back work as the README says."""

from pathlib import Path

import reference
from distributions import ALL, COMPONENTS, MODULES
from environments import FROM_DIST, Environment

USE = """
import asyncio, contextvars, json, warnings
from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async

local = Local()
variable = contextvars.ContextVar("variable")

def blocking():
    variable.set(local.value + 1)
    return local.value

async def main():
    local.value = 41
    return await sync_to_async(blocking)(), variable.get()

print(json.dumps(async_to_sync(main)()))
"""


def install_reference(environment: Environment) -> None:
    environment.pip("install", f"asgiref=={reference.VERSION}")


def test_an_upgrade_replaces_every_module_and_leaves_no_old_one(
    fresh_environment: Environment,
) -> None:
    install_reference(fresh_environment)
    old = fresh_environment.module_files(MODULES)

    fresh_environment.pip("install", "--upgrade", *FROM_DIST, "asgiref")

    new = fresh_environment.module_files(MODULES)
    assert {name for name in MODULES if old[name] == new[name]} == {"asgiref"}
    others = [name for name in MODULES if name != "asgiref"]
    assert [old[name] for name in others if Path(old[name]).exists()] == []
    fresh_environment.pip("check")
    assert fresh_environment.versions()["asgiref"] != reference.VERSION
    assert fresh_environment.evaluate(USE) == [41, 42]


def check_reference_is_back(environment: Environment) -> None:
    versions = environment.versions()
    assert versions["asgiref"] == reference.VERSION
    assert [name for name in versions if name.startswith("asgiref-")] == []
    files = environment.module_files(MODULES)
    shipped = environment.run("-m", "pip", "show", "--files", "asgiref").split()
    assert {Path(file).relative_to(environment.path).name for file in files.values()} <= {
        Path(name).name for name in shipped
    }
    assert [file for file in files.values() if Path(file).parent.name != "asgiref"] == []
    assert environment.evaluate(USE) == [41, 42]


def test_a_downgrade_uninstalls_all_and_installs_asgiref_3_13(
    fresh_environment: Environment,
) -> None:
    fresh_environment.install_ours("asgiref")

    fresh_environment.pip("uninstall", "--yes", *(each.name for each in ALL))
    install_reference(fresh_environment)

    check_reference_is_back(fresh_environment)


def test_a_downgrade_can_uninstall_the_components_afterwards(
    fresh_environment: Environment,
) -> None:
    fresh_environment.install_ours("asgiref")

    install_reference(fresh_environment)
    # Until the components are uninstalled, their folders hide the files of the old distribution,
    # and importing them fails if warnings are errors.
    found = fresh_environment.evaluate(
        "import importlib.util, json\n"
        "print(json.dumps(importlib.util.find_spec('asgiref.sync').origin))"
    )
    assert Path(found).parent.name == "sync"
    fresh_environment.pip("uninstall", "--yes", *(each.name for each in COMPONENTS))

    check_reference_is_back(fresh_environment)
