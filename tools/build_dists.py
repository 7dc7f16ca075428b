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

__all__ = ["build_all"]

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def build_all(target: Path, root: Path = ROOT) -> list[Path]:
    """Build everything into a folder; return the wheels. Exits the program on failure."""
    packages = sorted(path.parent for path in (root / "packages").glob("*/pyproject.toml"))
    for package in packages:
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target)]
        done = subprocess.run([*build, str(package)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"cannot build {package.name}:\n{done.stdout}\n{done.stderr}")
    return sorted(target.glob("*.whl"))


def main() -> None:
    make_parser("build the sdist and the wheel of every package into dist/").parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    print("\n".join(path.name for path in build_all(DIST)))


if __name__ == "__main__":
    main()
