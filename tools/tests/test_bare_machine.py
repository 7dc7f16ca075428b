"""The README's two commands on a Debian system with Python: no git, no compiler, no servers."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from checkouts import copy_checkout

pytestmark = [pytest.mark.bare_machine, pytest.mark.timeout(900)]

# The environments of the default list whose tests call programs, and one whose tests call none.
ENVIRONMENTS = "wheels,local,postgres,examples,tools,docs"
# The oldest Debian whose Python is supported.
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# The variables that tell pip, here and inside, where the index is and which hosts to trust.
NETWORK = re.compile(
    r"^(PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|\w+_proxy)$", re.I
)
# Mounts end with the command, so that none is left when the folder is removed.
PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private")
ENTER = (
    'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && '
    'exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$0" sh -c "$1"'
)

#: Runs a command in the checkout of `root` or `somebody`; returns its output if it succeeded.
Run = Callable[[str, str], str]


def output_of(*command: str | Path) -> str:
    done = subprocess.run(
        [*PRIVATE_MOUNTS, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def mirrors() -> list[str]:
    """Return the Debian mirrors of this machine's apt; debootstrap has its own default."""
    paths = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
    text = "".join(path.read_text() for path in paths if path.exists())
    return re.findall(r"^(?:URIs:|deb) +(\S+/debian/?)(?: |$)", text, re.MULTILINE)


def network() -> str:
    settings = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    if CERTIFICATES.exists():
        names = "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"
        settings |= dict.fromkeys(names, str(CERTIFICATES))
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a machine")
    for program in ("debootstrap", "unshare", "chroot"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    with TemporaryDirectory(prefix="bare-machine-") as folder:
        Path(folder).chmod(0o755)
        made = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder]
        output_of(*made, *mirrors()[:1])
        for source in (Path("/etc/resolv.conf"), CERTIFICATES):
            if source.exists():
                shutil.copy(source, f"{folder}{source}")
        output_of("sh", "-c", ENTER, folder, "useradd --create-home somebody")
        for home in ("root", "home/somebody"):
            copy_checkout(Path(folder, home, "checkout"))
        output_of("sh", "-c", ENTER, folder, "chown -R somebody: /home/somebody")

        def run(command: str, user: str) -> str:
            inside = f"cd ~/checkout && env {network()} {command}"
            return output_of("sh", "-c", ENTER, folder, f"su - {user} -c {shlex.quote(inside)}")

        yield run


def test_the_tests_pass_and_say_what_they_skipped(run: Run) -> None:
    shown = run(f"python3 run_tests.py -p 2 -e {ENVIRONMENTS}", "somebody")
    assert re.search(r"^\d+ passed, 0 failed, \d+ skipped$", shown, re.M), shown
    for program in ("git", "ngircd", "mosquitto"):
        assert re.search(rf"^skipped: \d+, because {program} is not installed$", shown, re.M), shown


@pytest.mark.parametrize("user", ["root", "somebody"])
def test_the_demo_runs_and_visits_itself(user: str, run: Run) -> None:
    shown = run("python3 demo/run.py --check", user)
    assert re.search(r"kill a worker: .* gave the rest", shown), shown
