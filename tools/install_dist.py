"""Install one built package and its test tools: ``python tools/install_dist.py PACKAGE_FOLDER``.

The names of this project must never resolve to an index: a stranger could publish one of them, and
the tests would then test the stranger's package. So pip gets a constraint for each of our names,
which names the wheel in ``dist/``. Before that, all our distributions are removed: a leftover from
an earlier run would hide a dependency that the package does not declare.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PACKAGES = {path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml")}


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-qq", *arguments], check=True)


def distribution_name(requirement: str) -> str:
    """Return the canonical name of the distribution that a requirement asks for."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def refuse_stale_wheel(package: Path) -> Path:
    """Return the package's wheel; exit the program if it is older than the sources."""
    wheels = list(DIST.glob(f"{package.name.replace('-', '_')}-[0-9]*.whl"))
    if len(wheels) != 1:
        sys.exit(f"dist/ should hold one wheel of {package.name}: run `tox run -e wheels` first")
    for source in (package / "pyproject.toml", *package.glob("src/**/*.py")):
        if source.stat().st_mtime > wheels[0].stat().st_mtime:
            sys.exit(
                f"{source.relative_to(ROOT)} is newer than dist/: run `tox run -e wheels` first"
            )
    return wheels[0]


def main(folder: str) -> None:
    wheels = {name: refuse_stale_wheel(ROOT / "packages" / name) for name in sorted(PACKAGES)}
    lines = [f"{name} @ {wheel.as_uri()}\n" for name, wheel in wheels.items()]
    pip("uninstall", "--yes", *wheels)
    with tempfile.TemporaryDirectory() as temporary:
        constraints = Path(temporary, "constraints.txt")
        constraints.write_text("".join(lines), "utf-8")
        wheel = wheels[Path(folder).resolve().name]
        pip("install", "--constraint", constraints, f"{wheel}[tests]")
    pip("check")


if __name__ == "__main__":
    sys.path.append(str(ROOT / "tools"))  # `python -I` does not add it
    from command_line import make_parser  # type: ignore[import-not-found]

    parser = make_parser("install one built package and its test tools into this Python")
    parser.add_argument("folder", metavar="PACKAGE_FOLDER", help="such as packages/asgiref-sync")
    main(parser.parse_args().folder)
