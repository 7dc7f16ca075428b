"""Each page of the site has a description, an icon, its version, and a way to its source."""

import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from html_pages import Page
from page_frame import LENGTH, description_of, repository_among, theme_links
from repository import ROOT, SITE
from sphinx.application import Sphinx

DESCRIPTION = re.compile(r'<meta name="description" content="([^"]+)">')
FILE = re.compile(r'<p class="page-file">.*?(docs/[\w./-]+)', re.S)


def pages() -> dict[str, str]:
    """Return the pages that have a source file."""
    paths = {path.relative_to(SITE): path for path in SITE.rglob("*.html")}
    found = {
        name.as_posix(): path.read_text("utf-8")
        for name, path in paths.items()
        if name.parts[0] != "_modules"
        and name.stem not in {"genindex", "py-modindex", "search", "domainindex"}
    }
    assert len(found) > 30, "build the site first: tox run -e wheels,docs"
    return found


def test_every_page_has_a_description_of_its_own() -> None:
    found = {name: DESCRIPTION.findall(text) for name, text in pages().items()}

    assert [
        name for name, each in found.items() if len(each) != 1 or len(each[0]) > 2 * LENGTH
    ] == []
    assert [
        text for text, count in Counter(each[0] for each in found.values()).items() if count > 1
    ] == []


def test_every_page_shows_the_version_and_names_its_file() -> None:
    for name, text in pages().items():
        assert f"asgiref components {version('asgiref')}" in text, name
        source = FILE.search(text)
        assert source is not None, name
        assert (ROOT / source[1]).is_file(), source[1]


def test_every_page_has_the_icon() -> None:
    for name, text in pages().items():
        assert any("favicon" in link for link in Page(text).links), name


def test_only_a_named_repository_is_linked() -> None:
    named = ["Specification, https://asgi.readthedocs.io/", "Repository, https://example.org/ours/"]

    assert repository_among(named) == "https://example.org/ours"
    assert repository_among(named[:1]) is None
    assert theme_links(None) == {}


def test_a_page_links_to_the_repository_and_to_its_source_to_edit(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Page\n\nWhy to *read* it.\n", "utf-8")
    address = "https://example.org/owner/ours"
    (source / "conf.py").write_text(
        f"extensions = ['myst_parser', 'page_frame']\nrepository = {address!r}\n"
        f"templates_path = [{str(ROOT / 'docs' / '_templates')!r}]\nhtml_theme = 'furo'\n"
        f"html_theme_options = {theme_links('https://github.com/owner/ours')!r}\n",
        "utf-8",
    )

    app = Sphinx(source, source, tmp_path / "out", tmp_path / "trees", "html", status=None)
    app.build()

    text = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert DESCRIPTION.findall(text) == ["Why to read it."]
    assert {address, f"{address}/blob/main/docs/index.md"} <= set(Page(text).links)
    assert "https://github.com/owner/ours/edit/main/docs/index.md" in Page(text).links


def test_a_long_description_ends_after_a_word(tmp_path: Path) -> None:
    from docutils.core import publish_doctree

    document = publish_doctree("Title\n=====\n\n- a list\n\n" + "word " * 100)

    assert re.fullmatch(r"(word ){30,}word…", description_of(document))
