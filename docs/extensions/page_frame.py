"""Add to each page the parts around its text: a description, its version, and its source file.

- Search engines show the description: the first paragraph, which says why to read the page.
- The footer names the version and the page's file in the repository.
- If the distribution names its repository, under ``Repository`` in ``[project.urls]``, the footer
  links to it, and the theme shows its links to view and edit the page. An address is never made up.
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["description_of", "repository_among", "setup", "theme_links"]

LENGTH = 160
BRANCH = "main"


def repository_among(urls: Iterable[str]) -> str | None:
    """Return the address of the repository from a distribution's ``Project-URL`` headers."""
    for url in urls:
        label, _, address = url.partition(", ")
        if label.lower() == "repository":
            return address.rstrip("/")
    return None


def theme_links(repository: str | None) -> dict[str, str]:
    """Return the theme's options for links to view and edit a page."""
    if repository is None:
        return {}
    return {
        "source_repository": f"{repository}/",
        "source_branch": BRANCH,
        "source_directory": "docs/",
    }


def description_of(document: nodes.Node) -> str:
    """Return the first paragraph, cut at a word."""
    for paragraph in document.findall(nodes.paragraph):
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if text and not isinstance(paragraph.parent, nodes.list_item | nodes.entry):
            return text if len(text) <= LENGTH else f"{text[: LENGTH - 1].rpartition(' ')[0]}…"
    return ""


def add_to_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    if document is None:  # the index, the search and the sources have no file
        return
    if description := description_of(document):
        context["metatags"] += f'<meta name="description" content="{escape(description)}">'
    context["page_file"] = f"docs/{app.env.doc2path(page, base=False)}"
    context["repository"] = app.config.repository
    context["branch"] = BRANCH


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("repository", None, "html")
    app.connect("html-page-context", add_to_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
