"""Assembling moves notes into a section of the CHANGELOG and removes their files."""

import datetime

import pytest
from assemble_notes import assemble, assembled, main, rendered_notes
from components import ROOT, Component, find_components
from projects import Project

DATE = datetime.date(2026, 11, 23)
CHANGES = "packages/asgiref-sync/changes"


def sync_of(project: Project) -> Component:
    for name in ("towncrier.toml", "tools/changelog.jinja"):
        project.write(name, (ROOT / name).read_text("utf-8"))
    return next(each for each in find_components(project.root) if each.name == "asgiref-sync")


def test_notes_of_a_new_version_become_the_first_section() -> None:
    old = "# Changes of x\n\n## 1.0.0 (2026-11-01)\n\n- First.\n"
    assert assembled(old, "1.0.1", DATE, "- Fixed.") == (
        "# Changes of x\n\n## 1.0.1 (2026-11-23)\n\n- Fixed.\n\n## 1.0.0 (2026-11-01)\n\n- First.\n"
    )


def test_notes_are_added_to_an_unreleased_section_and_date_it() -> None:
    old = "# Changes of x\n\n## 1.0.0 (unreleased)\n\n- First.\n- Second.\n"
    new = assembled(old, "1.0.0", DATE, "- Third.")
    assert new == "# Changes of x\n\n## 1.0.0 (2026-11-23)\n\n- First.\n- Second.\n- Third.\n"


def test_a_section_that_is_not_released_needs_no_notes() -> None:
    old = "# Changes of x\n\n## 1.0.0 (unreleased)\n\n- First.\n"
    assert (
        assembled(old, "1.0.0", DATE, "") == "# Changes of x\n\n## 1.0.0 (2026-11-23)\n\n- First.\n"
    )


def test_the_first_section_of_all_follows_the_title() -> None:
    new = assembled("# Changes of x\n", "1.0.0", DATE, "- First.")
    assert new == "# Changes of x\n\n## 1.0.0 (2026-11-23)\n\n- First.\n"


def test_a_version_without_notes_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"nothing says what is new in 1\.0\.1"):
        assembled("# Changes of x\n\n## 1.0.0 (2026-11-01)\n\n- First.\n", "1.0.1", DATE, "")


def test_a_version_that_is_dated_gets_no_second_section() -> None:
    with pytest.raises(ValueError, match=r"already dates 1\.0\.0"):
        assembled("# Changes of x\n\n## 1.0.0 (2026-11-01)\n\n- First.\n", "1.0.0", DATE, "- More.")


def test_notes_are_a_flat_list_with_what_breaks_callers_first(project: Project) -> None:
    project.write(f"{CHANGES}/+b.fix.md", "Does not hang.\n")
    project.write(f"{CHANGES}/+a.feature.md", "Can do more, of which\nthis line tells too.\n")
    project.write(f"{CHANGES}/+c.breaking.md", "Can do less.\n")
    assert rendered_notes(sync_of(project)) == (
        "- Breaking: Can do less.\n"
        "- Can do more, of which\n  this line tells too.\n"
        "- Does not hang."
    )


def test_assembling_writes_the_changelog_and_removes_the_notes(project: Project) -> None:
    project.write(f"{CHANGES}/+b.fix.md", "Does not hang.\n")
    component = sync_of(project)

    assemble(component, DATE)

    [section] = component.sections()
    assert (section.version, section.when) == ("1.0.0", "2026-11-23")
    assert section.text == "- First.\n- Does not hang."
    assert list((project.root / CHANGES).iterdir()) == []


def test_a_note_without_a_kind_in_its_name_is_an_error_that_loses_nothing(project: Project) -> None:
    project.write(f"{CHANGES}/answer.md", "Does not hang.\n")
    with pytest.raises(SystemExit, match=r"asgiref-sync: Invalid news fragment name: answer\.md"):
        assemble(sync_of(project), DATE)
    assert (project.root / CHANGES / "answer.md").exists()


def test_all_takes_the_packages_that_have_news(project: Project) -> None:
    project.release("asgiref-sync")
    dated = sync_of(project).changelog.read_text("utf-8")

    main(["all"], project.root)

    assert sync_of(project).changelog.read_text("utf-8") == dated
    assert "(unreleased)" not in project.root.joinpath(
        "packages/asgiref-wsgi/CHANGELOG.md"
    ).read_text("utf-8")


def test_without_a_name_pending_notes_are_shown_and_nothing_is_written(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(f"{CHANGES}/+b.fix.md", "Does not hang.\n")
    sync_of(project)
    main([], project.root)
    assert "asgiref-sync:\n- Does not hang.\n" in capsys.readouterr().out
    assert (project.root / CHANGES / "+b.fix.md").exists()


def test_an_unknown_package_is_an_error(project: Project) -> None:
    with pytest.raises(SystemExit, match="no package asgi; there are asgiref-sync, asgiref-wsgi"):
        main(["asgi"], project.root)
