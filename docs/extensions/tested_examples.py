"""Run every Python block of the Markdown pages with Sphinx's doctest builder.

The rules use ordinary fences, so the pages also read well without Sphinx:

- each ``python`` block runs in the page's own namespace, one after the other;
- a ``text`` block that follows it is its exact output;
- a ``python`` block with prompts (``>>>``) is a doctest.

No ``python`` block can be skipped: a block that should not run (a shell command, a sample file) has
another language. A page's blocks together are a program that a reader can paste.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

__all__ = ["ExamplesAreTests", "setup"]


def is_code(node: nodes.Node | None, language: str) -> bool:
    return isinstance(node, nodes.literal_block) and node.get("language") == language


class ExamplesAreTests(SphinxTransform):
    """Marks the blocks like the directives of sphinx.ext.doctest."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        if not str(self.document.get("source", "")).endswith(".md"):
            return
        for node in list(self.document.findall(nodes.literal_block)):
            if "testnodetype" not in node and is_code(node, "python"):
                self.mark(node, "doctest" if ">>> " in node.astext() else "testcode")

    def mark(self, node: nodes.literal_block, kind: str) -> None:
        node["testnodetype"], node["groups"] = kind, ["default"]
        if kind == "doctest":
            node["language"] = "pycon"
            return
        output = node.next_node(descend=False, siblings=True)
        if isinstance(output, nodes.literal_block) and is_code(output, "text"):
            output["testnodetype"], output["groups"] = "testoutput", ["default"]
            output["options"] = {}


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(ExamplesAreTests)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
