"""One component, all, any allowed mix of versions, and editable checkouts can be imported."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from distributions import ALL, COMPONENTS, META, MODULES, ROOT, Distribution
from environments import Environment

OLDEST, NEWEST, REFUSED = "1.0.0", "1.99.0", "2.0.0"

every_component = pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.name)


def test_the_sync_bridge_alone_installs_nothing_else(fresh_environment: Environment) -> None:
    fresh_environment.install_ours("asgiref-sync")

    seen = fresh_environment.evaluate(
        "import asyncio, importlib.util as u, json\n"
        "import asgiref\n"
        "from asgiref.sync import async_to_sync, sync_to_async\n"
        "async def add(a, b): return await sync_to_async(int.__add__)(a, b)\n"
        "print(json.dumps({\n"
        "    'sum': async_to_sync(add)(2, 3),\n"
        "    'local': u.find_spec('asgiref.local') is not None,\n"
        "    'init': getattr(asgiref, '__file__', None),\n"
        "}))"
    )

    assert seen == {"sum": 5, "local": False, "init": None}


@every_component
def test_a_component_installs_with_its_requirements_and_no_more(
    component: Distribution, fresh_environment: Environment
) -> None:
    fresh_environment.install_ours(component.name)

    needs = component.needs.union(*(c.needs for c in COMPONENTS if c.name in component.needs))
    installed = fresh_environment.versions().keys() - {"pip", "setuptools"}
    assert installed == needs | {component.name}
    assert fresh_environment.module_files([component.module])


def test_the_meta_package_installs_every_module(fresh_environment: Environment) -> None:
    fresh_environment.install_ours("asgiref")

    files = fresh_environment.module_files(MODULES)

    assert set(files) == set(MODULES)
    assert all(Path(file).is_relative_to(fresh_environment.path) for file in files.values())
    fresh_environment.pip("check")


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of every component at the oldest version, the newest, and one out of range."""
    folder = tmp_path_factory.mktemp("variants")
    copies = tmp_path_factory.mktemp("copies")
    build = "import sys; from flit_core.buildapi import build_wheel; build_wheel(sys.argv[1])"
    for component in COMPONENTS:
        copy = copies / component.name
        shutil.copytree(component.folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
        portion = copy.joinpath("src", *component.module.split("."), "__init__.py")
        original = portion.read_text("utf-8")
        for version in (OLDEST, NEWEST, REFUSED):
            source, found = re.subn(
                r'^__version__ = ".*"$', f'__version__ = "{version}"', original, flags=re.MULTILINE
            )
            assert found == 1
            portion.write_text(source, "utf-8")
            subprocess.run([sys.executable, "-c", build, str(folder)], cwd=copy, check=True)
    shutil.copy(META.wheel, folder)
    return folder


@pytest.fixture(scope="module")
def pinned_environment(make_environment: Callable[[str], Environment]) -> Environment:
    return make_environment("pinned")


def pins(version: str, **exceptions: str) -> list[str]:
    versions = {component.name: version for component in COMPONENTS}
    versions |= {name.replace("_", "-"): other for name, other in exceptions.items()}
    return ["asgiref", *(f"{name}=={pinned}" for name, pinned in versions.items())]


def check_pins(environment: Environment, variants: Path, requirements: list[str]) -> None:
    environment.pip("install", "--no-index", "--find-links", variants, *requirements)
    environment.pip("check")
    versions = environment.versions()
    assert [
        pin for pin in requirements[1:] if versions[pin.split("==")[0]] != pin.split("==")[1]
    ] == []
    assert set(environment.module_files(MODULES)) == set(MODULES)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_all_components_pinned_to_one_end_of_their_ranges(
    version: str, variants: Path, pinned_environment: Environment
) -> None:
    check_pins(pinned_environment, variants, pins(version))


@every_component
@pytest.mark.parametrize(("one", "rest"), [(NEWEST, OLDEST), (OLDEST, NEWEST)])
def test_one_component_at_one_end_and_the_rest_at_the_other(
    component: Distribution, one: str, rest: str, variants: Path, pinned_environment: Environment
) -> None:
    requirements = pins(rest, **{component.name.replace("-", "_"): one})
    check_pins(pinned_environment, variants, requirements)


@every_component
def test_the_next_major_version_is_refused(
    component: Distribution, variants: Path, pinned_environment: Environment
) -> None:
    refused = pinned_environment.attempt(
        *("-m", "pip", "install", "--dry-run", "--no-index", "--find-links", variants),
        *("asgiref", f"{component.name}=={REFUSED}"),
    )
    assert refused.returncode != 0
    assert "conflicting dependencies" in refused.stderr
    assert f"{component.name}=={REFUSED}" in refused.stderr


def install_editable(environment: Environment, *distributions: Distribution) -> None:
    environment.pip("install", "flit-core>=3.12,<5")
    folders = [option for each in distributions for option in ("--editable", each.folder)]
    environment.pip("install", "--no-index", "--no-build-isolation", "--no-deps", *folders)


EDITABLE = {
    "every portion, no meta-package": (COMPONENTS, ()),
    "every portion and the meta-package": (ALL, ()),
    "the meta-package over wheels": ((META,), COMPONENTS),
    "sync and wsgi beside wheels": (
        tuple(c for c in COMPONENTS if c.name in {"asgiref-sync", "asgiref-wsgi"}),
        tuple(d for d in ALL if d.name not in {"asgiref-sync", "asgiref-wsgi"}),
    ),
    "everything but sync beside its wheel": (ALL[1:], ALL[:1]),
}


@pytest.mark.parametrize("mode", EDITABLE)
def test_editable_installs_import_from_the_checkout_and_wheels_from_the_environment(
    mode: str, fresh_environment: Environment
) -> None:
    editable, from_wheel = EDITABLE[mode]
    if from_wheel:
        fresh_environment.install_ours("--no-deps", *(each.name for each in from_wheel))
    install_editable(fresh_environment, *editable)

    in_checkout = [each.module for each in editable if each is not META]
    in_environment = [each.module for each in from_wheel if each is not META]
    for meta, modules in ((editable, in_checkout), (from_wheel, in_environment)):
        if META in meta:
            modules += ["asgiref", "asgiref.timeout", "asgiref.current_thread_executor"]
    files = fresh_environment.module_files(in_checkout + in_environment)

    packages = ROOT / "packages"
    assert [m for m in in_checkout if not Path(files[m]).is_relative_to(packages)] == []
    inside = fresh_environment.path
    assert [m for m in in_environment if not Path(files[m]).is_relative_to(inside)] == []
