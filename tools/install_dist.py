"""Install one built package and its test tools: ``python tools/install_dist.py PACKAGE_FOLDER``.

The names of this project must never resolve to an index: a stranger could publish one of them, and
the tests would then test the stranger's package. So the installation has two steps: third-party
dependencies of the package and its ``tests`` extra come from the index; the package itself and its
dependencies in this project come only from ``dist/``. Before that, all our distributions are
removed: a leftover from an earlier run would hide a dependency that the package does not declare.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PACKAGES = {path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml")}


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-qq", *arguments], check=True)


def distribution_name(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    if name is None:
        sys.exit(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def refuse_stale_wheel(package: Path) -> None:
    """Exit the program if the wheel is older than the sources."""
    wheels = list(DIST.glob(f"{package.name.replace('-', '_')}-[0-9]*.whl"))
    if len(wheels) != 1:
        sys.exit(f"dist/ should hold one wheel of {package.name}: run `tox run -e wheels` first")
    sources = [package / "pyproject.toml", *package.glob("src/**/*.py")]
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime > wheels[0].stat().st_mtime:
        sys.exit(f"{newest.relative_to(ROOT)} is newer than dist/: run `tox run -e wheels` first")


def main(folder: str) -> None:
    package = Path(folder).resolve()
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    tools = project["optional-dependencies"]["tests"] + project.get("dependencies", [])
    ours = [tool for tool in tools if distribution_name(tool) in PACKAGES]
    for name in sorted(PACKAGES):
        refuse_stale_wheel(ROOT / "packages" / name)
    pip("install", *(tool for tool in tools if tool not in ours))
    pip("uninstall", "--yes", *sorted(PACKAGES))
    pip("install", "--no-index", "--find-links", str(DIST), project["name"], *ours)
    pip("check")


if __name__ == "__main__":
    sys.path.append(str(ROOT / "tools"))  # `python -I` does not add it
    from command_line import make_parser  # type: ignore[import-not-found]

    parser = make_parser("install one built package and its test tools into this Python")
    parser.add_argument("folder", metavar="PACKAGE_FOLDER", help="such as packages/asgiref-sync")
    main(parser.parse_args().folder)
