"""The site is readable in a light and a dark theme, and on a phone."""

import re
from collections import Counter
from pathlib import Path

import pytest
from pictures import PLOT_INK
from repository import ROOT, SITE

STYLE = ROOT / "docs" / "_static" / "site.css"
SCRIPT = ROOT / "docs" / "_static" / "site.js"
PICTURES = sorted((ROOT / "docs").glob("[!_]*/*.svg"))


def pages() -> list[tuple[Path, str]]:
    """Return the pages other than source code, which Sphinx does not always rewrite."""
    paths = [path for path in SITE.rglob("*.html") if "_modules" not in path.parts]
    found = [(path, path.read_text("utf-8")) for path in paths]
    assert len(found) > 20, "build the site first: tox run -e wheels,docs"
    return found


def test_every_picture_is_embedded_in_its_page_so_that_it_uses_the_colours() -> None:
    outside = [(path.name, img) for path, text in pages() for img in images(text) if ".svg" in img]

    assert outside == []
    assert sum(text.count('<div class="picture ') for _, text in pages()) >= len(PICTURES) > 10


def images(text: str) -> list[str]:
    return re.findall(r"<img [^>]*>", text)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_has_no_background_and_no_ink_of_one_theme_only(path: Path) -> None:
    """A diagram uses the theme's variables; a plot uses a colour that the page replaces."""
    text = path.read_text("utf-8")

    if 'class="diagram"' in text:
        assert "var(--color-foreground-primary" in text
        assert "prefers-color-scheme: dark" in text
    else:
        assert PLOT_INK in text
        assert not re.search(r"#(f{3}|f{6}|0{3}|0{6}|3{6})\b", text)


def test_no_id_on_a_page_occurs_twice() -> None:
    """Embedded pictures have ids too, and a link or a clip path needs a unique target."""
    twice = [
        (path.relative_to(SITE), name)
        for path, text in pages()
        for name, count in Counter(re.findall(r'\bid="([^"]+)"', text)).items()
        if count > 1 and 'class="picture ' in text
    ]

    assert twice == []


def test_nothing_on_a_page_floats() -> None:
    """After a floating table of keys, the following text would appear in the margin."""
    floating = [
        (path.name, found)
        for path, text in pages()
        for found in re.findall(r'class="([^"]*)"', text)
        if re.search(r"\balign-(left|right)\b", found)
    ]

    assert floating == []


def test_every_page_marks_wide_elements_that_are_cut() -> None:
    """Wide pictures, tables and code scroll in a separate box; a script marks its cut edges."""
    style, script = STYLE.read_text("utf-8"), SCRIPT.read_text("utf-8")

    for mark in ("more-left", "more-right"):
        assert f".{mark} {{ mask-image" in style
        assert f'"{mark}"' in script
    for box in (".picture", ".table-wrapper"):
        assert f"{box} {{ overflow-x: auto" in style
        assert box in script
    assert [path.name for path, text in pages() if "_static/site.js" not in text] == []
    tables = [re.findall(r'(.{80})<table class="[^"]*docutils', text, re.S) for _, text in pages()]
    assert any(tables)
    assert all("table-wrapper" in before for found in tables for before in found)
