"""Every link of the site and of the repository's Markdown files has a target."""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from html_pages import Page
from repository import ROOT, SITE


def is_inside(link: str) -> bool:
    parts = urlsplit(link)
    return not parts.scheme and not parts.netloc


def test_every_link_of_the_site_has_its_target() -> None:
    pages = {path: Page(path.read_text("utf-8")) for path in SITE.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in filter(is_inside, page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].targets if target in pages else None
            if not target.exists() or (
                parts.fragment and known is not None and unquote(parts.fragment) not in known
            ):
                broken.append(f"{path.relative_to(SITE)}: {link}")

    assert len(pages) > 20, "build the site first: tox run -e wheels,docs"
    assert broken == []


def markdown_files() -> list[Path]:
    """Return the Markdown files of the repository, or of an unpacked source without git."""
    if shutil.which("git"):
        listed = subprocess.run(
            ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if listed.returncode == 0:
            return [path for name in listed.stdout.split() if (path := ROOT / name).exists()]
    # Environments contain other projects' Markdown; their folders have names with a leading dot.
    found = ((path, path.relative_to(ROOT).parts) for path in ROOT.rglob("*.md"))
    return [
        path
        for path, parts in found
        if "_build" not in parts and not any(part.startswith(".") for part in parts)
    ]


def anchors(path: Path) -> set[str]:
    """Return the anchors that the repository's host makes for the headings of a file."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_of_a_markdown_file_has_its_target(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(link)
        names_an_object = link.startswith("#asgiref.")  # followed, and checked, by Sphinx
        if is_inside(link) and not names_an_object:
            target = (path.parent / parts.path).resolve() if parts.path else path
            known = anchors(target) if target.suffix == ".md" and target.exists() else None
            if not target.exists() or (
                parts.fragment and known is not None and parts.fragment not in known
            ):
                broken.append(link)

    assert broken == []
