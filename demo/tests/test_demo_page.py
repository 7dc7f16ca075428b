"""The initial content of the page, and the targets of its links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app.guestbook import ChatFacts, make_guestbook
from app.storage import Storage
from app.trace import Trace
from flask.testing import FlaskClient


@pytest.fixture(params=[0, 3], ids=["one process", "workers"])
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> FlaskClient:
    facts = ChatFacts(
        "127.0.0.1:6667", "guessbot", "#asgiref", embedded=True, workers=request.param
    )
    return make_guestbook(Storage(tmp_path), Trace(), lambda: facts).test_client()


def test_the_table_of_where_it_ran_is_the_first_part_of_the_page(browser: FlaskClient) -> None:
    page = browser.get("/").text

    assert re.findall(r'<section class="card[^"]*" id="(\w+)', page)[:2] == ["where", "guestbook"]


def test_the_links_to_documentation_and_source_lead_there(browser: FlaskClient) -> None:
    links = re.findall(r'<a href="(/repository/[^"]+)"', browser.get("/").text)

    assert {"/repository/docs/index.md", "/repository/demo/app/__init__.py"} < set(links)
    for link in links:
        with browser.get(link) as answer:
            assert (answer.status_code, answer.mimetype) == (200, "text/plain"), link


@pytest.mark.parametrize("path", ["README.md", "docs/../README.md", "demo/../.git/config"])
def test_nothing_else_of_the_repository_is_shown(browser: FlaskClient, path: str) -> None:
    assert browser.get(f"/repository/{path}").status_code == 404
