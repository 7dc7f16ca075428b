"""The folders and modules of the repository."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SITE = ROOT / "docs" / "_build" / "html"
PACKAGES = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))


def module_of(package: Path) -> str:
    tool = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["tool"]
    name: str = tool["flit"]["module"]["name"]
    return name


def modules() -> list[str]:
    """Return the modules of all packages in this repository."""
    return [module_of(package) for package in PACKAGES]
