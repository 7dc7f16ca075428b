"""The examples in the READMEs work when pasted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import ALL, Distribution


def examples(readme: Path) -> str:
    """Return the Python blocks of a README as one program: a block may use earlier ones."""
    blocks = re.findall(r"^```python\n(.*?)^```$", readme.read_text("utf-8"), re.M | re.S)
    return "\n".join(blocks)


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.name)
def test_the_examples_in_a_readme_run(distribution: Distribution, tmp_path: Path) -> None:
    program = examples(distribution.folder / "README.md")
    assert program, "a README without an example"

    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
