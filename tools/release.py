"""Rehearse a release, with all steps except the upload: ``python tools/release.py [--check]``.

1. Refuse components that must not be released (`release_check`); ``--check`` stops here.
2. Build every sdist and wheel; ``twine`` and ``check-wheel-contents`` check them.
3. Install everything from the sdists, as users without a matching wheel do.
4. Unpack each sdist, and run its tests against the installed packages.

The environments ``sync``, ``wsgi`` and so on test that each package works with only its declared
dependencies. Runs in an environment that it may change, with ``build``, ``check-wheel-contents``,
``flit-core``, ``packaging`` and ``twine``; needs git.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from build_dists import ROOT, build_all
from command_line import make_parser
from release_check import State, check


def python(*arguments: str | Path, folder: Path | None = None) -> None:
    """Run a module of the environment; exit the program if it fails, after its output."""
    print("release:", *arguments, flush=True)
    if subprocess.run([sys.executable, "-I", "-m", *arguments], cwd=folder).returncode:
        sys.exit(f"release: `{' '.join(map(str, arguments))}` failed")


def rehearse(root: Path, folder: Path) -> None:
    """Build, check, install and test everything; exit the program on a failure."""
    wheels = build_all(folder / "built", root)
    sdists = sorted(folder.glob("built/*.tar.gz"))
    python("twine", "check", "--strict", *wheels, *sdists)
    python("check_wheel_contents", *wheels)
    # pip looks in no index for a distribution whose file it is given. It caches the wheels that it
    # builds: a cached one would hide an sdist that does not build.
    options = [
        "-qq",
        "--no-cache-dir",
        "--no-build-isolation",
        *(f"{each}[tests]" for each in sdists),
    ]
    python("pip", "install", *options)
    python("pip", "check")
    for sdist in sdists:
        shutil.unpack_archive(sdist, folder)
        unpacked = folder / sdist.name.removesuffix(".tar.gz")
        python("pytest", "-q", "-p", "no:cacheprovider", folder=unpacked)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    parser = make_parser("do everything for a release except the upload")
    parser.add_argument("--check", action="store_true", help="only print what would be released")
    only_check = parser.parse_args(arguments).check
    verdicts = check(root)
    print(*verdicts, sep="\n", flush=True)
    if any(each.state is State.REFUSED for each in verdicts):
        sys.exit("release: refused, because of the components above")
    if only_check:
        return
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        rehearse(root, Path(folder))
    order = [each.component.tag for each in verdicts if each.state is State.TO_RELEASE]
    print(f"release: ready, in this order: {', '.join(order) or 'nothing is to be released'}")


if __name__ == "__main__":
    main()
