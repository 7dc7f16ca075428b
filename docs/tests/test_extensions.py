"""The site's own extensions work on sites of one page."""

from pathlib import Path

import pytest
from pictures import PLOT_INK, picture
from reference import Alias, Key, alias_of, keys_of
from sphinx.application import Sphinx

from asgiref.typing import HTTPResponseBodyEvent, WebSocketSendEvent


def build(folder: Path, builder: str, page: str, extensions: list[str]) -> Sphinx:
    source, out = folder / "source", folder / builder
    source.mkdir()
    (source / "index.md").write_text(page, "utf-8")
    (source / "conf.py").write_text(f"extensions = {extensions!r}", "utf-8")
    (source / "light.svg").write_text('<svg class="diagram"><title>t</title></svg>', "utf-8")
    app = Sphinx(source, source, out, folder / "doctrees", builder, status=None, warning=None)
    app.build()
    return app


EXAMPLES = ["myst_parser", "sphinx.ext.doctest", "tested_examples"]


@pytest.mark.parametrize(
    ("page", "failures"),
    [
        ("```python\nprint(6 * 7)\n```\n\n```text\n42\n```\n", 0),
        ("```python\nprint(6 * 7)\n```\n\n```text\n43\n```\n", 1),
        ("```python\nprint(6 * 7)\n```\n", 1),  # prints what the page does not show
        ("```python\nanswer = 42\n```\n\n```python\nassert answer == 42\n```\n", 0),
        ("```python\nraise LookupError\n```\n", 1),
        ("```python\n>>> 6 * 7\n43\n\n```\n", 1),
        ("```console\n$ not python\n```\n", 0),
    ],
)
def test_every_python_block_on_a_page_is_run(tmp_path: Path, page: str, failures: int) -> None:
    app = build(tmp_path, "doctest", f"# Page\n\n{page}", EXAMPLES)

    assert app.statuscode == (1 if failures else 0)
    assert f"{failures} failure" in (tmp_path / "doctest" / "output.txt").read_text("utf-8")


def test_a_picture_is_embedded_in_the_page(tmp_path: Path) -> None:
    build(tmp_path, "html", "# Page\n\n![one](light.svg)\n", ["myst_parser", "pictures"])

    shown = (tmp_path / "html" / "index.html").read_text("utf-8")
    assert 'class="diagram"><title>t</title></svg>' in shown
    assert "light.svg" not in shown


def test_a_plot_uses_the_colour_of_the_text_and_does_not_affect_the_rest_of_the_page() -> None:
    plot = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9"><metadata>made\nby</metadata>'
        '<style type="text/css">*{stroke-linejoin: round}</style><clipPath id="p1"/>'
        f'<g clip-path="url(#p1)" style="stroke: {PLOT_INK}"/></svg>'
    )

    assert picture(plot, "speed", 'How "fast"') == (
        '<div class="picture speed" tabindex="0">'
        '<svg role="img" aria-label="How &quot;fast&quot;" width="9">'
        '<style type="text/css">.speed *{stroke-linejoin: round}</style><clipPath id="speed-p1"/>'
        '<g clip-path="url(#speed-p1)" style="stroke: currentColor"/></svg></div>'
    )


def test_the_keys_of_a_typed_dict_are_shown_as_in_the_source() -> None:
    assert keys_of(HTTPResponseBodyEvent) == [
        Key("type", "Literal['http.response.body']", required=True),
        Key("body", "bytes", required=False),
        Key("more_body", "bool", required=False),
    ]
    assert Key("bytes", "Binary | None", required=False) in keys_of(WebSocketSendEvent)


def test_an_alias_has_its_value_and_its_text() -> None:
    assert alias_of("asgiref.typing", "ASGI2Application") == Alias(
        "type[ASGI2Protocol]", "An ASGI 2.0 application: the class of its instances."
    )


def test_a_missing_alias_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"asgiref\.typing has no alias Nonsense"):
        alias_of("asgiref.typing", "Nonsense")
