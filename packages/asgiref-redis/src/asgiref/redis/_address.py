"""What a URL says of where Redis is: one server, a sentinel's master, or a cluster."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ._errors import CannotStart

_SCHEMES = {
    f"{base}{kind}": (base, kind[1:])
    for base in ("redis", "rediss")
    for kind in ("", "+sentinel", "+cluster")
} | {"unix": ("unix", "")}


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says.

    Attributes:
        base: its scheme without the kind: ``"redis"``, ``"rediss"`` or ``"unix"``.
        kind: ``"sentinel"``, ``"cluster"``, or ``""`` for one server.
        hosts: each with its port; several for the first two kinds.
        plain: a URL that redis-py understands, with the first of the hosts.
        service, database: only for sentinels.
    """

    base: str
    kind: str
    hosts: tuple[tuple[str, int], ...]
    plain: str
    service: str
    database: str


def parsed(url: str) -> Address:
    """The parts of a URL. Raises CannotStart if it is none that can be used."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise CannotStart(
            f"The URL {redacted(url)!r} must begin with one of {', '.join(sorted(_SCHEMES))}."
        )
    base, kind = _SCHEMES[parts.scheme]
    user, at, places = parts.netloc.rpartition("@")
    hosts = tuple(_host_and_port(url, place, kind) for place in places.split(",") if place)
    if not hosts and base != "unix":
        raise CannotStart(f"The URL {redacted(url)!r} names no host.")
    query = f"?{parts.query}" if parts.query else ""
    if not kind:
        return Address(base, kind, hosts, url, "", "")
    path = [each for each in parts.path.split("/") if each]
    if kind == "sentinel" and not path:
        raise CannotStart(
            f"The URL {redacted(url)!r} must name the service: HOST:PORT,HOST:PORT/SERVICE."
        )
    host, port = hosts[0]
    shown = f"[{host}]" if ":" in host else host
    plain = f"{base}://{user}{at}{shown}:{port}{query}"
    service, database = (path[0], path[1] if path[1:] else "0") if kind == "sentinel" else ("", "0")
    return Address(base, kind, hosts, plain, service, database)


def _host_and_port(url: str, place: str, kind: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        port = parts.port
    except ValueError:
        raise CannotStart(f"The URL {redacted(url)!r} has a wrong host or port.") from None
    return parts.hostname or "localhost", port or (26379 if kind == "sentinel" else 6379)


def redacted(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(//[^/@]*:)[^/@]*@", r"\1***@", re.sub(r"([?&]password=)[^&]*", r"\1***", url))
