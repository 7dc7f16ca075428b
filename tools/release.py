"""Rehearse a release, with all steps except the upload: ``python tools/release.py [--check]``.

1. Refuse components that must not be released (`release_check`); ``--check`` stops here.
2. Build every sdist and wheel; ``twine`` and ``check-wheel-contents`` check them.
3. Install everything from the sdists, as users without a matching wheel do. Third-party packages
   come from the index first; pip then finds our names only among the sdists.
4. Unpack each sdist, and run its tests against the installed packages.

The environments ``sync``, ``wsgi`` and so on test that each package works with only its declared
dependencies. Runs in an environment that it may change, with ``build``, ``check-wheel-contents``,
``flit-core``, ``packaging`` and ``twine``; needs git.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from build_dists import build_all
from command_line import make_parser
from components import ROOT, Component
from packaging.requirements import Requirement
from release_check import ReleaseState, check

__all__ = ["foreign", "main"]


def say(step: str) -> None:
    print(f"release: {step}", flush=True)


def python(*arguments: str | Path) -> None:
    """Run a module of the environment; exit the program if it fails, after its output."""
    if subprocess.run([sys.executable, "-I", "-m", *arguments]).returncode:
        sys.exit(f"release: `{' '.join(map(str, arguments))}` failed")


def foreign(requirements: Iterable[Requirement], ours: Iterable[str]) -> list[str]:
    """Return the third-party requirements, without duplicates, in pip's format."""
    return sorted({str(each) for each in requirements if each.name not in set(ours)})


def install_from_sdists(components: Sequence[Component], folder: Path) -> None:
    names = [component.name for component in components]
    needs = [need for each in components for need in (*each.needs, *each.test_tools)]
    python("pip", "-qq", "install", *foreign(needs, names))
    # pip caches the wheels that it builds: a cached one would hide an sdist that does not build.
    options = ["--no-cache-dir", "--no-build-isolation", "--no-binary", ",".join(names)]
    python("pip", "-qq", "install", "--no-index", "--find-links", folder, *options, *names)
    python("pip", "check")


def tests_pass(sdist: Path, folder: Path) -> bool:
    """Unpack an sdist and run its tests; pytest prints its own summary."""
    say(f"test {sdist.name}")
    shutil.unpack_archive(sdist, folder)
    command = [sys.executable, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=folder / sdist.name.removesuffix(".tar.gz")).returncode == 0


def rehearse(root: Path, components: Sequence[Component], folder: Path) -> None:
    """Build, check, install and test everything; exit the program on a failure."""
    wheels = build_all(folder / "built", root)
    say(f"{len(wheels)} sdists and wheels are built")
    python("twine", "check", "--strict", folder / "built" / "*")
    python("check_wheel_contents", *wheels)
    say("install everything from the sdists")
    install_from_sdists(components, folder / "built")
    sdists = sorted(folder.glob("built/*.tar.gz"))
    failed = [sdist.name for sdist in sdists if not tests_pass(sdist, folder / "unpacked")]
    if failed:
        sys.exit(f"release: the tests of {', '.join(failed)} failed")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    parser = make_parser("do everything for a release except the upload")
    parser.add_argument("--check", action="store_true", help="only print what would be released")
    only_check = parser.parse_args(arguments).check
    releases = check(root)
    for release in releases:
        say(str(release))
    refused = [each for each in releases if each.state is ReleaseState.REFUSED]
    if refused:
        sys.exit(f"release: refused, because of {len(refused)} of {len(releases)} components")
    if only_check:
        return
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        rehearse(root, [each.component for each in releases], Path(folder))
    order = [each.component.tag for each in releases if each.state is ReleaseState.TO_RELEASE]
    say(f"ready, in this order: {', '.join(order) or 'nothing is to be released'}")


if __name__ == "__main__":
    main()
