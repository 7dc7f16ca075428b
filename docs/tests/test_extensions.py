"""What the site's own extensions do, shown on sites of one page."""

from pathlib import Path

import pytest
from pictures import is_diagram
from reference import Alias, Key, alias_of, keys_of
from sphinx.application import Sphinx

from asgiref.typing import HTTPResponseBodyEvent, WebSocketSendEvent


def build(folder: Path, builder: str, page: str, extensions: list[str]) -> Sphinx:
    source, out = folder / "source", folder / builder
    source.mkdir()
    (source / "index.md").write_text(page, "utf-8")
    (source / "conf.py").write_text(f"extensions = {extensions!r}", "utf-8")
    (source / "light.svg").write_text('<svg class="diagram"><title>t</title></svg>', "utf-8")
    (source / "plain.svg").write_text("<svg></svg>", "utf-8")
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
def test_every_python_block_of_a_page_is_run(tmp_path: Path, page: str, failures: int) -> None:
    app = build(tmp_path, "doctest", f"# Page\n\n{page}", EXAMPLES)

    assert app.statuscode == (1 if failures else 0)
    assert f"{failures} failure" in (tmp_path / "doctest" / "output.txt").read_text("utf-8")


def test_a_diagram_stands_in_the_page_and_another_picture_does_not(tmp_path: Path) -> None:
    page = "# Page\n\n![one](light.svg)\n\n![other](plain.svg)\n"

    build(tmp_path, "html", page, ["myst_parser", "pictures"])

    shown = (tmp_path / "html" / "index.html").read_text("utf-8")
    assert '<svg class="diagram">' in shown
    assert "light.svg" not in shown
    assert 'src="_images/plain.svg"' in shown


def test_a_diagram_is_known_by_its_root_element() -> None:
    assert is_diagram('<?xml version="1.0"?>\n<svg viewBox="0 0 1 1" class="diagram">')
    assert not is_diagram('<svg viewBox="0 0 1 1"><g class="diagram"/></svg>')


def test_the_keys_of_a_typed_dict_are_told_as_the_source_has_them() -> None:
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


def test_an_alias_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"asgiref\.typing has no alias Nonsense"):
        alias_of("asgiref.typing", "Nonsense")
