"""``prose_counts.py``: which text counts, which folder it counts for, and when it fails."""

import re
from pathlib import Path

import pytest
from prose_counts import main, prose_of

MODULE = '''"""Somebody reads this."""
name = "whoever"  # what a comment says


class Record:
    value: int
    """What the value means."""


def begin():
    """Return `whatever` or ``nobody``.

    >>> begin()  # nobody
    """
'''
PAGE = """# What a page says

```python
whoever = "somebody"
```

<!-- somebody begins -->

:::{note}
A note counts, `nobody` does not.
:::
"""


def write(root: Path, name: str, text: str) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return name


def test_docstrings_and_comments_of_a_module_count_and_code_does_not(tmp_path: Path) -> None:
    write(tmp_path, "module.py", MODULE)
    words = prose_of(tmp_path / "module.py").split()
    assert " ".join(words) == (
        "Somebody reads this. What the value means. Return or . what a comment says"
    )


def test_the_text_of_a_page_counts_and_its_code_does_not(tmp_path: Path) -> None:
    write(tmp_path, "page.md", PAGE)
    text = prose_of(tmp_path / "page.md")
    assert "What a page says" in text
    assert "A note counts" in text
    assert "body" not in text
    assert "begins" not in text


def test_packages_and_the_documentation_count_by_subfolder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (
        "README.md",
        "docs/dependents.md",
        "docs/index.md",
        "docs/how-to/install.md",
        "docs/_build/copy.md",
        "packages/asgiref-sync/README.md",
        "packages/asgiref-sync/src/asgiref/sync/_calls.py",
        "tools/tests/test_release.py",
        ".tox/docs/page.md",
    ):
        write(tmp_path, name, "# four words of text\n")
    assert main([], tmp_path) == 0
    rows = re.findall(r"^(\S+) +(\d+) +0\.0", capsys.readouterr().out, re.M)
    folders = [".", "docs", "docs/dependents.md", "docs/how-to", "packages/asgiref-sync"]
    assert rows == [(name, "4") for name in (*folders, "packages/asgiref-sync/src", "tools")]


@pytest.mark.parametrize(
    ("word", "allowed"), [("somebody", 3), ("What", 35), ("begun", 3), ("for ever", 0)]
)
def test_a_folder_fails_above_a_limit(
    word: str, allowed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for occurrences, expected in ((allowed, 0), (allowed + 1, 1)):
        filler = 10_000 - occurrences * len(word.split())
        write(tmp_path, "docs/page.md", "word " * filler + f"{word} " * occurrences)
        assert main([], tmp_path) == expected
    assert "docs: too many of" in capsys.readouterr().out
