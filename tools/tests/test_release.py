"""The steps of the dry run: the requirements from an index, and the upload order."""

import pytest
from components import find_components, in_upload_order
from packaging.requirements import Requirement
from projects import Project
from release import foreign, main


def test_a_component_is_uploaded_after_those_that_it_needs(project: Project) -> None:
    project.write_component("asgiref", "asgiref.all", needs=["asgiref-wsgi", "asgiref-sync"])
    project.write_component("asgiref-alone", "asgiref.alone", needs=["asgiref-wsgi"])
    order = [component.name for component in in_upload_order(find_components(project.root))]
    assert order.index("asgiref-sync") < order.index("asgiref-wsgi") < order.index("asgiref")
    assert order.index("asgiref-wsgi") < order.index("asgiref-alone")


def test_our_names_are_never_looked_up_in_an_index() -> None:
    needs = [*map(Requirement, ["pytest>=8", "asgiref-sync>=1.0", "asyncpg>=0.30", "pytest>=8"])]
    assert foreign(needs, ["asgiref-sync", "asgiref"]) == ["asyncpg>=0.30", "pytest>=8"]


def test_a_requirement_is_known_however_its_name_is_spelled(project: Project) -> None:
    project.write_component("asgiref", "asgiref.all", needs=["Asgiref_Sync>=1.0"])
    [meta] = [each for each in find_components(project.root) if each.name == "asgiref"]
    assert [need.name for need in meta.needs] == ["asgiref-sync"]


def test_a_refused_release_ends_before_anything_is_built(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.release("asgiref-sync")
    project.replace("packages/asgiref-sync/src/asgiref/sync/__init__.py", "42", "43")
    monkeypatch.setattr("release.build_all", pytest.fail)

    with pytest.raises(SystemExit, match="refused, because of 1 of 2 components"):
        main([], project.root)

    assert "asgiref-sync 1.0.0: REFUSED: " in capsys.readouterr().out


def test_a_check_alone_builds_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("release.build_all", pytest.fail)
    main(["--check"], project.root)
    assert "asgiref-wsgi 1.0.0: to release" in capsys.readouterr().out
