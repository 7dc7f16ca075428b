"""``prose_counts.py``: which text counts, which folder it counts for, and when the check fails."""

import re
from pathlib import Path

import pytest
from prose_counts import count_folders, main, prose_of

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


def test_packages_and_the_documentation_count_by_subfolder(tmp_path: Path) -> None:
    names = [
        "README.md",
        "docs/dependents.md",
        "docs/index.md",
        "docs/how-to/install.md",
        "packages/asgiref-sync/README.md",
        "packages/asgiref-sync/src/asgiref/sync/_calls.py",
        "tools/tests/test_release.py",
    ]
    for name in names:
        write(tmp_path, name, "# four words of text\n")
    counts = count_folders(tmp_path, names)
    assert list(counts) == [
        ".",
        "docs/dependents.md",
        "docs/how-to",
        "docs",
        "packages/asgiref-sync",
        "packages/asgiref-sync/src",
        "tools",
    ]
    assert {count.words for count in counts.values()} == {4}


@pytest.mark.parametrize(
    ("word", "allowed"), [("somebody", 3), ("What", 35), ("begun", 3), ("for ever", 0)]
)
def test_a_held_folder_fails_above_a_limit(
    word: str, allowed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for occurrences, expected in ((allowed, 0), (allowed + 1, 1)):
        filler = 10_000 - occurrences * len(word.split())
        write(tmp_path, "docs/page.md", "word " * filler + f"{word} " * occurrences)
        assert main([], tmp_path, frozenset({"docs"})) == expected
    assert "docs: too many of" in capsys.readouterr().out


def test_a_folder_that_is_not_held_is_only_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "docs/page.md", "somebody " * 20)
    write(tmp_path, "docs/_build/copy.md", "word " * 20)
    write(tmp_path, ".tox/docs/page.md", "word " * 20)
    assert main([], tmp_path, frozenset()) == 0
    assert re.search(r"^docs +20 +10000\.0", capsys.readouterr().out, re.M)


def test_a_held_folder_that_is_gone_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "docs/page.md", "text")
    assert main([], tmp_path, frozenset({"docs", "doc"})) == 1
    assert "doc: no such folder" in capsys.readouterr().out
