"""What a worker was told, in one record that its parts share and nobody changes."""

import secrets
from dataclasses import dataclass

from ._codec import MAX_SIZE, Encode
from ._errors import CannotStart

#: How many entries one call reads or writes for one partition, at most.
BATCH = 128


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds, sizes in bytes; see `RedisWorker` for what each means.

    Attributes:
        member: what the worker is called in Redis: its name, and what no other process has. So two
            workers that were given one name are two all the same, as are one that was killed and
            the one that is started in its place.
    """

    connection: str
    group: str
    name: str
    member: str
    encode: Encode
    lease: float = 10.0
    prefetch: int = 256
    failures: int = 5
    retry_delay: float = 0.1
    max_size: int = MAX_SIZE
    stream_limit: int = 100_000
    dead_limit: int = 10_000
    replicas: int = 0

    @property
    def lease_ms(self) -> int:
        return int(self.lease * 1000)


def member_of(name: str) -> str:
    """A `Settings.member`: what cannot be in a name (`_keys`) divides the two parts."""
    return f"{name}#{secrets.token_hex(4)}"


def name_of(member: str) -> str:
    """The name in a `Settings.member`."""
    return member.partition("#")[0]


def check_numbers(**numbers: tuple[float, float]) -> None:
    """Raise CannotStart for the first whose value, the first of a pair, is below the second."""
    for name, (value, least) in numbers.items():
        if not value >= least:
            raise CannotStart(f"{name} must be at least {least:g}, not {value!r}.")
