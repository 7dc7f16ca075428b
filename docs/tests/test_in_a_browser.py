"""In a browser: no page is wider than a phone, and the search finds every error message."""

import json
import re
from pathlib import Path

import pytest
from browser import run_in_browser
from repository import ROOT, SITE

MESSAGES = ROOT / "docs" / "troubleshooting" / "messages.md"

WIDTHS = """
const wide = [];
for (const page of %s) {
  const frame = await load(page, %d);
  const width = frame.contentDocument.documentElement.scrollWidth;
  if (width > %d) wide.push([page, width]);
  frame.remove();
}
return wide;
"""

# The functions behind the search page: its results appear one after the other, after a delay.
SEARCHES = """
const { contentWindow: page } = await load("search.html", 1000);
while (page.eval("typeof Search === 'undefined' || !Search.hasIndex()"))
  await new Promise((resolve) => setTimeout(resolve, 50));
page.queries = %s;
return page.eval(`queries.filter((query) => !Search._performSearch(...Search._parseQuery(query))
  .some(([name]) => name === "troubleshooting/messages"))`);
"""


def pages() -> list[str]:
    paths = [path.relative_to(SITE) for path in SITE.rglob("*.html")]
    return sorted(path.as_posix() for path in paths if path.parts[0] != "_modules")


def messages() -> list[str]:
    """The constant words of each message: a name in it would have to be on the page."""
    found = re.findall(r"^`(.+)`\n: ", MESSAGES.read_text("utf-8"), re.M)
    return [" ".join(re.findall(r"[\w.]+", message.replace("…", " "))) for message in found]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [400, 768])
def test_no_page_is_wider_than_the_screen(width: int, tmp_path: Path) -> None:
    assert run_in_browser(WIDTHS % (json.dumps(pages()), width, width), tmp_path) == []


@pytest.mark.timeout(180)
def test_the_search_finds_every_error_message(tmp_path: Path) -> None:
    assert len(messages()) > 200
    assert run_in_browser(SEARCHES % json.dumps(messages()), tmp_path) == []


@pytest.mark.timeout(180)
def test_a_wide_page_and_a_failing_search_are_noticed(tmp_path: Path) -> None:
    wide = run_in_browser(WIDTHS % (json.dumps(["index.html"]), 100, 100), tmp_path / "one")
    unknown = run_in_browser(SEARCHES % json.dumps(["no such message xyzzy"]), tmp_path / "two")

    assert [page for page, _ in wide] == ["index.html"]
    assert unknown == ["no such message xyzzy"]
