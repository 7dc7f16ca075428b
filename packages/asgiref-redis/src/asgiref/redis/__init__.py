"""asgiref.server past one machine: a gateway and any number of workers, through Redis Streams."""

from ._errors import CannotStart, ConnectionTaken, LeaseLost, RedisServerError
from ._gate import Delivery
from ._gateway import RedisGateway
from ._queue import ScopeQueue
from ._status import GroupStatus, PartitionStatus, Status, status
from ._worker import RedisWorker

__all__ = [
    "CannotStart",
    "ConnectionTaken",
    "Delivery",
    "GroupStatus",
    "LeaseLost",
    "PartitionStatus",
    "RedisGateway",
    "RedisServerError",
    "RedisWorker",
    "ScopeQueue",
    "Status",
    "status",
]
