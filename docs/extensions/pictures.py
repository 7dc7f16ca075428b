"""Embed the site's pictures in the page, so that they use its colours, light or dark.

A picture in an ``img`` element does not know the reader's theme, but an embedded one does. Pages
refer to pictures in plain Markdown, ``![text](name.svg)``. Diagrams have a style sheet that uses
the theme's variables, with fallbacks for a file that is shown alone. matplotlib's plots have no
background, and use `PLOT_INK` for text and lines: this module replaces it with the colour of the
page's text.
"""

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

__all__ = ["PLOT_INK", "PicturesTakeThePageColours", "picture", "setup"]

PLOT_INK = "#7d7d7d"


def picture(svg: str, name: str, text: str) -> str:
    """Return the picture as HTML; `name` distinguishes its ids from those of other pictures."""
    svg = re.sub(r"^.*?(?=<svg\b)|<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|url\(#|href="#|aria-labelledby=")', rf"\g<1>{name}-", svg)
    svg = svg.replace(PLOT_INK, "currentColor")
    # matplotlib's rule for all elements must only apply to this picture.
    svg = svg.replace(">*{", f">.{name} *{{")
    if "role=" not in svg:
        svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(text)}"', 1)
    return f'<div class="picture {name}" tabindex="0">{svg}</div>'


class PicturesTakeThePageColours(SphinxPostTransform):
    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir) / image["uri"]
            if path.suffix == ".svg" and path.exists():
                name = nodes.make_id(f"picture-{path.stem}")
                figure = picture(path.read_text("utf-8"), name, image.get("alt", ""))
                image.replace_self(nodes.raw("", figure, format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(PicturesTakeThePageColours)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
