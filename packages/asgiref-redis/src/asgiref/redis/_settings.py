"""What a gateway or a worker was told, in one record that its parts share and nobody changes."""

import secrets
from dataclasses import dataclass

from ._codec import Encode
from ._errors import CannotStart

#: How many entries one call reads or writes for one partition, at most.
BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What both have. Times are in seconds, sizes in bytes.

    Raises:
        CannotStart: if a number is too small.
    """

    connection: str
    name: str
    lease: float
    stream_limit: int
    dead_limit: int
    failures: int
    retry_delay: float
    max_size: int
    replicas: int

    def __post_init__(self) -> None:
        check_numbers(
            lease=(self.lease, 0.3),
            stream_limit=(self.stream_limit, 1),
            dead_limit=(self.dead_limit, 1),
            failures=(self.failures, 1),
            retry_delay=(self.retry_delay, 0),
            max_size=(self.max_size, 1),
            replicas=(self.replicas, 0),
        )

    @property
    def lease_ms(self) -> int:
        return int(self.lease * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings(Settings):
    """See `RedisGateway` for what each means; ``partitions`` is None if it takes what there are."""

    partitions: int | None

    def __post_init__(self) -> None:
        Settings.__post_init__(self)  # `super()` knows the class from before it got its slots
        check_numbers(partitions=(1 if self.partitions is None else self.partitions, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings(Settings):
    """See `RedisWorker` for what each means.

    Attributes:
        member: what the worker is called in Redis: its name, and what no other process has. So two
            workers that were given one name are two all the same, as are one that was killed and
            the one that is started in its place.
    """

    group: str
    member: str
    encode: Encode
    prefetch: int

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        check_numbers(prefetch=(self.prefetch, 1))


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
