"""Build the sdist and the wheel of every package into ``dist/``.

Needs ``build`` and ``flit-core``.

Each wheel is built from its sdist, not from the checkout, so a file that the sdist forgot is missed
here and not by the first user who builds from it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def main() -> None:
    packages = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))
    shutil.rmtree(DIST, ignore_errors=True)
    for package in packages:
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST)]
        done = subprocess.run([*build, str(package)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"cannot build {package.name}:\n{done.stdout}\n{done.stderr}")
    wheels = sorted(path.name for path in DIST.glob("*.whl"))
    if len(wheels) != len(packages):
        sys.exit(f"{len(packages)} packages, but these wheels: {wheels}")
    print("\n".join(wheels))


if __name__ == "__main__":
    main()
