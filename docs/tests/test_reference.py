"""Every installed public name is in the reference, according to the built site's inventory."""

import importlib
import re
from collections.abc import Iterator

import pytest
from repository import ROOT, SITE, modules
from sphinx.util.inventory import InventoryFile

SNAPSHOT = ROOT / "integration-tests" / "public_api.txt"

# Syntax calls these special methods, so the reference does not describe them.
CALLED_BY_SYNTAX = {"__get__", "__enter__", "__exit__", "__aenter__", "__aexit__"}


def names_of_the_snapshot() -> Iterator[str]:
    """Yield each name of integration-tests/public_api.txt, and each key of a TypedDict."""
    for line in SNAPSHOT.read_text("utf-8").splitlines():
        found = re.match(r"([\w.]+)(?:\(.*\))?(?: async)?(?: \{(.*)\})?$", line)
        assert found, line
        yield found[1]
        yield from (f"{found[1]}.{key.rstrip('?')}" for key in (found[2] or "").split(", ") if key)


def inventory() -> set[str]:
    path = SITE / "objects.inv"
    if not path.exists():
        pytest.fail("build the site first: tox run -e wheels,docs, or make html in docs/")
    found = InventoryFile.loads(path.read_bytes(), uri="")
    return {name for kind in found.data.values() for name in kind}


def test_every_name_in_the_snapshot_is_in_the_reference() -> None:
    wanted = {
        name for name in names_of_the_snapshot() if name.split(".")[-1] not in CALLED_BY_SYNTAX
    }

    missing = sorted(wanted - inventory())

    assert wanted, "the snapshot is empty"
    assert not missing, f"not in docs/reference: {', '.join(missing)}"


@pytest.mark.parametrize("module", modules())
def test_every_exported_name_is_in_the_reference(module: str) -> None:
    wanted = {module}
    wanted |= {
        f"{module}.{name}" for name in getattr(importlib.import_module(module), "__all__", ())
    }

    assert sorted(wanted - inventory()) == []


def test_no_text_of_an_attribute_is_shown_as_its_type() -> None:
    """Napoleon treats the text before a colon as the type, for example in "None: never"."""
    pattern = r'>Type<span class="colon">:</span></dt>\s*<dd[^>]*>(.*?)</dd>'
    pages = (path.read_text("utf-8") for path in SITE.glob("reference/*.html"))
    types = [
        re.sub(r"<[^>]+>", "", found).strip()
        for page in pages
        for found in re.findall(pattern, page, re.S)
    ]

    assert types
    assert [text for text in types if re.search(r"\w \w+ \w", text)] == []


def test_only_the_sources_of_this_project_are_on_the_site() -> None:
    pages = {
        path.relative_to(SITE / "_modules").parts[0] for path in SITE.glob("_modules/**/*.html")
    }

    assert pages <= {"asgiref", "asgiref.html", "index.html"}


def test_every_name_that_has_a_source_links_to_it() -> None:
    """Functions and classes in the reference link to the page with their source."""
    page = (SITE / "reference" / "sync.html").read_text("utf-8")

    for name in (
        "sync_to_async",
        "async_to_sync",
        "ThreadSensitiveContext",
        "LimitedExecutor.submit",
    ):
        assert re.search(rf'href="\.\./_modules/asgiref/sync/\w+\.html#{name}"', page), name
