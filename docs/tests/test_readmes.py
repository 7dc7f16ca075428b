"""Each README has what a newcomer looks for, and the repository's example runs as pasted.

(The packages' examples run in the integration suite, where each is installed.)
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import PACKAGES, ROOT


def test_the_example_of_the_repository_prints_what_it_says() -> None:
    program = "\n".join(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    )

    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program], capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("row 1\nrow 2\n", "")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_readme_says_how_to_install_use_and_read_on(package: Path) -> None:
    text = (package / "README.md").read_text("utf-8")

    assert text.startswith(f"# {package.name}\n\n")
    assert f"pip install {package.name}\n" in text
    assert "```python\n" in text
    assert "](../../docs/" in text.split("## Documentation")[-1]
    assert "](../../README.md" in text


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_readme_of_the_repository_and_the_index_name_every_package(package: Path) -> None:
    for page in ("README.md", "docs/index.md", "SECURITY.md"):
        assert f"`{package.name}`" in (ROOT / page).read_text("utf-8"), page
