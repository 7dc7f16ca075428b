"""Machines that have only Python, to try the README's commands on."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from checkouts import copy_checkout

__all__ = ["BareMachine", "DebianRoot", "EmptyPath", "why_no_debian_root"]

# The oldest Debian whose Python is supported.
SUITE = "bookworm"
# Mounts end with the command, so that none is left when the folder is removed.
PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private")
PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# The variables that tell pip, here and inside, where the index is and which hosts to trust.
NETWORK = re.compile(
    r"^(PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|\w+_proxy)$", re.I
)


class BareMachine(ABC):
    """A machine on which each user has a checkout."""

    @abstractmethod
    def run(self, command: str, user: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the user's checkout, and return its result even if it failed."""


def network_settings() -> dict[str, str]:
    settings = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    if CERTIFICATES.exists():
        for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            settings[name] = str(CERTIFICATES)
    return settings


def captured(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def why_no_debian_root() -> str | None:
    """Return what this machine lacks to create and enter a Debian root, if anything."""
    if os.geteuid() != 0:
        return "only root can make one"
    missing = [name for name in ("debootstrap", "unshare", "chroot") if not shutil.which(name)]
    if missing:
        return f"{missing[0]} is not installed"
    if captured(["unshare", "--mount", "true"]).returncode:
        return "root may not mount anything here"
    return None


@dataclass(frozen=True, slots=True)
class DebianRoot(BareMachine):
    """Debian with python3 and python3-venv: no git, no compiler, no servers."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "DebianRoot":
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        made = captured([*PRIVATE_MOUNTS, *command, *mirrors()[:1]])
        assert made.returncode == 0, made.stdout[-3000:]
        machine = cls(root)
        for source in (Path("/etc/resolv.conf"), CERTIFICATES):
            if source.exists():
                shutil.copy(source, root / source.relative_to("/"))
        machine.enter("useradd --create-home somebody").check_returncode()
        copy_checkout(root / "root/checkout")
        copy_checkout(root / "home/somebody/checkout")
        machine.enter("chown -R somebody: /home/somebody").check_returncode()
        return machine

    def run(self, command: str, user: str) -> subprocess.CompletedProcess[str]:
        settings = [f"{name}={shlex.quote(value)}" for name, value in network_settings().items()]
        inside = f"cd ~/checkout && env {' '.join(settings)} {command}"
        return self.enter(f"su - {user} -c {shlex.quote(inside)}")

    def enter(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root, with the mounts of a running system."""
        script = (
            'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && '
            'exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$0" sh -c "$1"'
        )
        return captured([*PRIVATE_MOUNTS, "sh", "-c", script, str(self.root), command])


def mirrors() -> list[str]:
    """Return the Debian mirrors of this machine's apt; debootstrap has its own default."""
    found: list[str] = []
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if path.exists():
            found += re.findall(r"^(?:URIs:|deb) +(\S+/debian/?)(?: |$)", path.read_text(), re.M)
    return found


@dataclass(frozen=True, slots=True)
class EmptyPath(BareMachine):
    """This machine with an empty PATH, so that commands find no programs."""

    home: Path

    @classmethod
    def create(cls, home: Path) -> "EmptyPath":
        copy_checkout(home / "checkout")
        (home / "nothing").mkdir()
        return cls(home)

    def run(self, command: str, user: str) -> subprocess.CompletedProcess[str]:
        name, *arguments = shlex.split(command)
        assert name == "python3"
        nothing = {"PATH": str(self.home / "nothing"), "HOME": str(self.home)}
        return captured(
            [sys.executable, *arguments],
            cwd=self.home / "checkout",
            env={**network_settings(), **nothing},
        )
