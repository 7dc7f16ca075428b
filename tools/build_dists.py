"""Build the sdist and the wheel of every package into ``dist/``.

Needs ``build`` and ``flit-core``.

Each wheel is built from its sdist, not from the checkout, so a file missing from the sdist breaks
this build, not that of the first user who builds from it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from command_line import make_parser

ROOT = Path(__file__).resolve().parent.parent


def build_all(target: Path, root: Path = ROOT) -> list[Path]:
    """Build everything into a folder; return the wheels. Exits the program on failure."""
    for project in sorted(root.glob("packages/*/pyproject.toml")):
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", f"{target}"]
        done = subprocess.run([*build, f"{project.parent}"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"cannot build {project.parent.name}:\n{done.stdout}\n{done.stderr}")
    return sorted(target.glob("*.whl"))


if __name__ == "__main__":
    make_parser("build the sdist and the wheel of every package into dist/").parse_args()
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    print(*(wheel.name for wheel in build_all(ROOT / "dist")), sep="\n")
