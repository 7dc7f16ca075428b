"""Rehearse a release without its upload: ``python tools/release.py [--check]``.

1. Refuse components that must not be released (`release_check`); ``--check`` stops here.
2. Build every sdist and wheel into a temporary folder, and check them with ``twine``.
3. Install everything from the sdists, as users without a matching wheel do, into one empty
   environment. Third-party packages and build tools come from the index first; pip then finds our
   names only among the sdists.
4. Unpack each sdist, and run its tests against the installed packages.

The environments ``sync``, ``wsgi`` and so on test that each package works with only its declared
dependencies. Needs ``build``, ``flit-core``, ``packaging``, ``twine`` and git.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from build_dists import build_all
from command_line import make_parser
from components import ROOT, Component, find_components, in_upload_order
from packaging.requirements import Requirement
from release_check import State, Verdict, check

__all__ = ["Environment", "foreign", "unpack"]


def say(step: str) -> None:
    print(f"release: {step}", flush=True)


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command; exit the program with the command's output if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        shown = " ".join(map(str, command))
        sys.exit(f"`{shown}` failed:\n{done.stdout}\n{done.stderr}")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of the running Python."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "Environment":
        venv.create(path, with_pip=True, symlinks=sys.platform != "win32")
        return cls(path)

    @property
    def python(self) -> Path:
        scripts = self.path / ("Scripts" if sys.platform == "win32" else "bin")
        return scripts / "python"

    def pip(self, *arguments: str | Path) -> None:
        run(self.python, "-I", "-m", "pip", "-qq", *arguments)


def foreign(requirements: Iterable[Requirement], ours: Iterable[str]) -> list[str]:
    """Return the third-party requirements, without duplicates, in pip's format."""
    names = set(ours)
    return sorted({str(each) for each in requirements if each.name not in names})


def install_from_sdists(
    environment: Environment, components: Sequence[Component], sdists: Path, tools: Path
) -> None:
    names = [component.name for component in components]
    needs = [need for component in components for need in (*component.needs, *component.test_tools)]
    builders = [need for component in components for need in component.build_tools]
    environment.pip("install", *foreign(needs, names))
    environment.pip("download", "--dest", tools, *foreign(builders, names))
    from_here: list[str | Path] = ["--no-index", "--find-links", sdists, "--find-links", tools]
    pins = [f"{component.name}=={component.version}" for component in components]
    # pip caches the wheels that it builds: a cached one would hide an sdist that does not build.
    environment.pip("install", "--no-cache-dir", *from_here, *pins)
    environment.pip("check")


def unpack(sdist: Path, target: Path) -> Path:
    """Unpack an sdist; return its top-level folder."""
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later
            archive.extractall(target, filter="data")
        else:
            archive.extractall(target)
    return target / sdist.name.removesuffix(".tar.gz")


def sdist_of(component: Component, folder: Path) -> Path:
    return folder / f"{component.name.replace('-', '_')}-{component.version}.tar.gz"


def tests_pass(environment: Environment, folder: Path) -> bool:
    """Run the tests of an unpacked sdist; pytest prints its own summary."""
    command = ["-I", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run([environment.python, *command], cwd=folder).returncode == 0


def build_and_check(folder: Path, root: Path) -> Path:
    """Build everything; return a folder that contains only the sdists."""
    built, sdists = folder / "built", folder / "sdists"
    sdists.mkdir()
    wheels = build_all(built, root)
    say(f"{len(wheels)} sdists and wheels are built; twine checks them")
    files = sorted(built.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    for path in built.glob("*.tar.gz"):
        path.rename(sdists / path.name)
    return sdists


def rehearse(root: Path, folder: Path) -> list[str]:
    """Build, check, install and test everything. Returns the packages whose tests failed."""
    components = in_upload_order(find_components(root))
    sdists = build_and_check(folder, root)
    say("install everything from the sdists into an empty environment")
    environment = Environment.create(folder / "environment")
    install_from_sdists(environment, components, sdists, folder / "build-tools")
    failed = []
    for component in components:
        say(f"test {component.name} in its unpacked sdist")
        unpacked = unpack(sdist_of(component, sdists), folder / "unpacked")
        if not tests_pass(environment, unpacked):
            failed.append(component.name)
    return failed


def refuse(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        say(str(verdict))
    refused = [verdict for verdict in verdicts if verdict.state is State.REFUSED]
    if refused:
        sys.exit(f"release: refused, because of {len(refused)} of {len(verdicts)} components")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    parser = make_parser("do all of a release but the upload")
    parser.add_argument("--check", action="store_true", help="only say what would be released")
    only_check = parser.parse_args(arguments).check
    verdicts = check(root)
    refuse(verdicts)
    if only_check:
        return
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        failed = rehearse(root, Path(folder))
    if failed:
        sys.exit(f"release: the tests of {', '.join(failed)} failed")
    order = [each.component.tag for each in verdicts if each.state is State.TO_RELEASE]
    say(f"ready, in this order: {', '.join(order) or 'nothing is to be released'}")


if __name__ == "__main__":
    main()
