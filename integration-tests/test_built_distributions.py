"""The built sdists and wheels contain the right files and metadata."""

import re
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import PurePosixPath

import pytest
from distributions import ALL, EXTRAS, META, Distribution

every_distribution = pytest.mark.parametrize("distribution", [*ALL, *EXTRAS], ids=lambda d: d.name)


def wheel_names(distribution: Distribution) -> set[str]:
    with zipfile.ZipFile(distribution.wheel) as wheel:
        return set(wheel.namelist())


def sdist_names(distribution: Distribution) -> set[str]:
    """The files of the sdist, relative to its top folder."""
    with tarfile.open(distribution.sdist) as sdist:
        members = [PurePosixPath(name) for name in sdist.getnames()]
    return {str(PurePosixPath(*member.parts[1:])) for member in members}


def metadata(distribution: Distribution) -> Message:
    with zipfile.ZipFile(distribution.wheel) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(wheel.read(name).decode("utf-8"))


@every_distribution
def test_a_wheel_contains_one_module_with_its_types_and_its_license(
    distribution: Distribution,
) -> None:
    folder = distribution.module.replace(".", "/")
    names = wheel_names(distribution)
    info = {name for name in names if ".dist-info/" in name}

    assert {f"{folder}/__init__.py", f"{folder}/py.typed"} <= names
    assert [name for name in info if name.endswith(".dist-info/licenses/LICENSE")]
    assert [name for name in names - info if not name.startswith(f"{folder}/")] == []


@every_distribution
def test_only_the_meta_package_ships_the_file_that_makes_asgiref_a_regular_package(
    distribution: Distribution,
) -> None:
    assert ("asgiref/__init__.py" in wheel_names(distribution)) is (distribution is META)


@every_distribution
def test_a_portion_is_a_folder_so_no_file_of_asgiref_3_13_has_its_name(
    distribution: Distribution,
) -> None:
    # pip first writes the requirements, and then removes the files of the replaced distribution.
    names = {name for name in wheel_names(distribution) if name.endswith(".py")}
    single_files = {name for name in names if name.count("/") == 1}
    assert single_files == ({"asgiref/__init__.py"} if distribution is META else set())


@every_distribution
def test_the_module_has_the_version_of_its_distribution(distribution: Distribution) -> None:
    source = f"{distribution.module.replace('.', '/')}/__init__.py"
    with zipfile.ZipFile(distribution.wheel) as wheel:
        text = wheel.read(source).decode("utf-8")

    assert re.findall(r'^__version__ = "(.+)"$', text, re.M) == [metadata(distribution)["Version"]]


@every_distribution
def test_a_distribution_without_a_dated_release_is_not_classified_as_stable(
    distribution: Distribution,
) -> None:
    changelog = (distribution.folder / "CHANGELOG.md").read_text("utf-8")
    dated = re.findall(r"^## \S+ \(\d{4}-\d\d-\d\d\)$", changelog, re.M)
    [status] = [
        text
        for text in metadata(distribution).get_all("Classifier", [])
        if text.startswith("Development Status")
    ]

    assert dated or status == "Development Status :: 4 - Beta"


@every_distribution
def test_metadata_links_to_the_specification(distribution: Distribution) -> None:
    assert metadata(distribution).get_all("Project-URL") == [
        "Specification, https://asgi.readthedocs.io/"
    ]


@every_distribution
def test_an_sdist_contains_its_tests_and_its_changelog(distribution: Distribution) -> None:
    names = sdist_names(distribution)
    tests = {name for name in names if re.fullmatch(r"tests/test_\w+\.py", name)}

    assert tests == {f"tests/{path.name}" for path in distribution.folder.glob("tests/test_*.py")}
    assert tests
    assert {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"} <= names


@every_distribution
def test_metadata_declares_the_license_the_python_and_the_requirements_of_the_table(
    distribution: Distribution,
) -> None:
    declared = metadata(distribution)
    requirements = declared.get_all("Requires-Dist", [])
    at_run_time = {text for text in requirements if "extra ==" not in text}

    assert declared["Name"] == distribution.name
    assert declared["License-Expression"] == "BSD-3-Clause"
    assert declared["Requires-Python"] == ">=3.11"
    assert "tests" in declared.get_all("Provides-Extra", [])
    assert {re.split(r"[<>=!~ ]", text)[0] for text in at_run_time} == distribution.needs


@every_distribution
def test_requirements_are_ranges_that_end_before_the_next_major_version(
    distribution: Distribution,
) -> None:
    requirements = metadata(distribution).get_all("Requires-Dist", [])
    ranges = [
        text for text in requirements if "extra ==" not in text and text.startswith("asgiref")
    ]
    assert [
        text for text in ranges if not re.fullmatch(r"[a-z-]+(<2,>=1\.\d+|>=1\.\d+,<2)", text)
    ] == []


@every_distribution
def test_the_changelog_starts_with_the_version_that_is_built(distribution: Distribution) -> None:
    changelog = (distribution.folder / "CHANGELOG.md").read_text("utf-8")
    [latest, *_] = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert latest == metadata(distribution)["Version"]
