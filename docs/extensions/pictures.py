"""Put the site's own pictures into the page itself, so that they take its colours, light or dark.

A picture in an ``img`` element cannot know which theme the reader has chosen. One that stands in
the page does: its style sheet uses the theme's variables, with fallbacks for where the file is
shown alone. Pages refer to pictures in plain Markdown, ``![text](name.svg)``; those whose
root element has ``class="diagram"`` are treated so, all others are left as they are.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

__all__ = ["PicturesTakeThePageColours", "is_diagram", "setup"]


def is_diagram(text: str) -> bool:
    root = re.search(r"<svg\b[^>]*>", text)
    return root is not None and 'class="diagram"' in root[0]


class PicturesTakeThePageColours(SphinxPostTransform):
    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir) / image["uri"]
            if path.suffix == ".svg" and path.exists():
                text = path.read_text("utf-8")
                if is_diagram(text):
                    figure = f'<div class="picture" tabindex="0">{text}</div>'
                    image.replace_self(nodes.raw("", figure, format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(PicturesTakeThePageColours)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
