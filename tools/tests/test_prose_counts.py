"""``prose_counts.py``: which text counts, which folder it counts for, and when it fails."""

from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("name", "text", "counted"),
    [
        (
            "a.py",
            MODULE,
            "Somebody reads this. What the value means. Return or . what a comment says",
        ),
        ("a.md", PAGE, "# What a page says :::{note} A note counts, does not. :::"),
    ],
    ids=["module", "page"],
)
def test_prose_counts_and_code_does_not(name: str, text: str, counted: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert " ".join(prose_of(tmp_path / name).split()) == counted


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("README.md", "."),
        ("docs/index.md", "docs"),
        ("docs/how-to/install.md", "docs/how-to"),
        ("docs/_build/copy.md", None),
        (".tox/docs/page.md", None),
        ("packages/asgiref-sync/README.md", "packages/asgiref-sync"),
        ("packages/asgiref-sync/src/asgiref/_calls.py", "packages/asgiref-sync/src"),
        ("tools/tests/test_release.py", "tools"),
    ],
)
@pytest.mark.parametrize(
    ("word", "allowed"), [("somebody", 3), ("What", 35), ("begun", 3), ("for ever", 0)]
)
def test_a_folder_fails_above_a_limit(
    name: str, folder: str | None, word: str, allowed: int, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for occurrences in (allowed, allowed + 1):
        filler = "# word " * (10_000 - occurrences * len(word.split()))
        path.write_text(filler + f"{word} " * occurrences, "utf-8")
        is_too_many = folder is not None and occurrences > allowed
        assert main([], tmp_path) == is_too_many
        assert (f"{folder}: too many of" in capsys.readouterr().out) == is_too_many
