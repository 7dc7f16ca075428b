"""A reader who only runs the commands and the code on a page gets the output that it shows."""

from pathlib import Path

import pytest
from reader import Reader, has_examples
from repository import ROOT

DOCS = [path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts]
READMES = list(ROOT.glob("packages/*/README.md"))
WITH_MANY_SERVERS = ROOT / "docs" / "how-to" / "deployment.md"  # see test_deployment.py
PAGES = sorted({*filter(has_examples, [*DOCS, *READMES])} - {WITH_MANY_SERVERS})


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_on_a_page_run_with_its_installed_packages(page: Path, tmp_path: Path) -> None:
    Reader(tmp_path).read(page)


def test_pages_with_examples_are_found() -> None:
    assert {ROOT / "docs" / "tutorial.md", ROOT / "docs" / "how-to" / "django.md"} < set(PAGES)


PAGE = """\
```console
$ pip install --no-index --find-links dist asgiref-local
```

```python
import {module}

print(1)
```

```text
{printed}
```

Save this as `mine.py` and ask:

```console
$ python mine.py
{shown}
```
"""


@pytest.mark.parametrize(
    ("module", "printed", "shown", "complaint"),
    [
        ("asgiref.local", 1, 1, None),
        ("asgiref.sync", 1, 1, "No module named 'asgiref.sync'"),
        ("asgiref.local", 2, 1, "the page shows\n2\n"),
        ("asgiref.local", 1, 2, "python mine.py"),
    ],
)
def test_a_wrong_page_is_detected(
    tmp_path: Path, module: str, printed: int, shown: int, complaint: str | None
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(module=module, printed=printed, shown=shown), "utf-8")
    folder = tmp_path / "reader"
    folder.mkdir()

    if complaint is None:
        Reader(folder).read(page)
    else:
        with pytest.raises(AssertionError, match=complaint):
            Reader(folder).read(page)


def test_an_application_that_cannot_be_served_is_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ pip install uvicorn\n$ uvicorn missing:application\n```\n")
    folder = tmp_path / "reader"
    folder.mkdir()

    with pytest.raises(AssertionError, match="uvicorn missing:application ended"):
        Reader(folder).read(page)
