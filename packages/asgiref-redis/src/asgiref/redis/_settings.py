"""What a worker was told, in one record that its parts share and nobody changes."""

from dataclasses import dataclass

from ._codec import MAX_SIZE, Encode
from ._errors import CannotStart

#: How many entries one call reads or writes for one partition, at most.
BATCH = 128
#: How many acknowledgements and events one call carries for one partition, at most.
WRITES = 512
#: How many events of one partition may wait in a worker before applications wait too.
WAITING = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds, sizes in bytes; see `RedisWorker` for what each means."""

    connection: str
    group: str
    name: str
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


def check_numbers(**numbers: tuple[float, float]) -> None:
    """Raise CannotStart for the first whose value, the first of a pair, is below the second."""
    for name, (value, least) in numbers.items():
        if not value >= least:
            raise CannotStart(f"{name} must be at least {least:g}, not {value!r}.")
