"""Each README serves a newcomer, in the repository and on an index, and its example runs.

(The integration tests run the packages' examples, because all packages are installed there.)
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import readme_renderer.markdown
from html_pages import Page
from repository import PACKAGES, ROOT


def test_the_example_of_the_repository_prints_the_stated_output() -> None:
    program = "\n".join(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    )

    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program], capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("row 1\nrow 2\n", "")


def test_the_pictures_in_the_readme_exist() -> None:
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', (ROOT / "README.md").read_text("utf-8"))

    assert len(pictures) == 2
    assert [name for name in pictures if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_readme_says_how_to_install_use_and_read_on(package: Path) -> None:
    text = (package / "README.md").read_text("utf-8")

    assert text.startswith(f"# {package.name}\n\n")
    assert re.search(rf'^\$ pip install .*"?{package.name}(~=[\d.]+")?$', text, re.M)
    assert "```python\n" in text
    assert "`docs/" in text.split("## Documentation")[-1]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_readme_reads_the_same_on_an_index_page_as_in_the_repository(package: Path) -> None:
    text = (package / "README.md").read_text("utf-8")
    page = Page(readme_renderer.markdown.render(text) or pytest.fail("cannot be rendered"))

    # An index page shows only the text, so a relative link has no target there.
    elsewhere = [link for link in page.links if link.removeprefix("#") not in page.targets]
    assert [link for link in elsewhere if not link.startswith("https://")] == []
    named = re.findall(r"`((?:docs|packages|examples)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_has_the_license_of_the_repository(package: Path) -> None:
    assert (package / "LICENSE").read_text("utf-8") == (ROOT / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_readme_of_the_repository_and_the_index_name_every_package(package: Path) -> None:
    for page in ("README.md", "docs/index.md", "SECURITY.md", "CHANGELOG.md"):
        assert f"`{package.name}`" in (ROOT / page).read_text("utf-8"), page
