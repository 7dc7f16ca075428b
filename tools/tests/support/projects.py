"""A small repository of components in a temporary folder."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PYPROJECT = """\
[build-system]
requires = ["flit_core>=3.12,<5"]
build-backend = "flit_core.buildapi"

[project]
name = "{name}"
description = "One of two."
dynamic = ["version"]
dependencies = {needs}

[project.optional-dependencies]
tests = ["pytest>=8"]

[tool.flit.module]
name = "{module}"

[tool.pytest.ini_options]
timeout = 60
"""


MODULE = '__version__ = "1.0.0"\nANSWER = 42\n'


@dataclass(frozen=True, slots=True)
class Project:
    root: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text("utf-8")
        assert old in text
        self.write(path, text.replace(old, new))

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def write_component(self, name: str, module: str, needs: Sequence[str] = ()) -> None:
        folder = f"packages/{name}"
        text = PYPROJECT.format(name=name, module=module, needs=list(needs))
        self.write(f"{folder}/pyproject.toml", text)
        self.write(f"{folder}/src/{module.replace('.', '/')}/__init__.py", MODULE)
        self.write(f"{folder}/tests/test_answer.py", "def test_answer(): assert True\n")
        self.write(f"{folder}/README.md", "What it is.\n")
        self.write(f"{folder}/LICENSE", "Yours.\n")
        self.write(
            f"{folder}/CHANGELOG.md", f"# Changes of {name}\n\n## 1.0.0 (unreleased)\n\n- First.\n"
        )

    def raise_version(self, name: str, version: str) -> None:
        [module] = self.root.glob(f"packages/{name}/src/asgiref/*/__init__.py")
        path = module.relative_to(self.root).as_posix()
        self.replace(path, '"1.0.0"', f'"{version}"')

    def release(self, name: str) -> None:
        """Date the CHANGELOG, commit and tag, as in CONTRIBUTING."""
        self.replace(f"packages/{name}/CHANGELOG.md", "(unreleased)", "(2026-11-01)")
        self.commit(f"Release {name} 1.0.0")
        self.git("tag", f"{name}-1.0.0")

    def clone(self, to: Path, *options: str) -> "Project":
        address = self.root.as_uri()
        command = ["git", "clone", "--quiet", *options, address, str(to)]
        subprocess.run(command, check=True, capture_output=True)
        return Project(to)
