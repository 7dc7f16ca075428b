"""What a worker counts: as its attributes, and as metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ._metrics import Metrics
from ._partition import Partition
from ._settings import WorkerSettings


@dataclass(slots=True)
class Counts:
    """What a worker has done since it was made."""

    handled: int = 0
    redelivered: int = 0
    failed: int = 0
    dead: int = 0


def worker_metrics(
    settings: WorkerSettings, counts: Counts, held: Mapping[int, Partition]
) -> Metrics:
    """The numbers of a worker that runs; ``held``: its partitions, a live mapping."""

    def over_held(number_of: Callable[[Partition], int]) -> Callable[[], int]:
        return lambda: sum(number_of(each) for each in list(held.values()))

    return Metrics(
        {
            "asgiref.redis.connection": settings.connection,
            "asgiref.redis.group": settings.group,
            "asgiref.redis.worker": settings.name,
        },
        {
            "asgiref.redis.worker.handled": lambda: counts.handled,
            "asgiref.redis.worker.redelivered": lambda: counts.redelivered,
            "asgiref.redis.worker.failed": lambda: counts.failed,
            "asgiref.redis.worker.dead_letters": lambda: counts.dead,
        },
        {
            "asgiref.redis.worker.partitions": over_held(lambda _: 1),
            "asgiref.redis.worker.pending": over_held(lambda each: each.pending),
            "asgiref.redis.worker.lag": over_held(lambda each: each.lag),
        },
    )
