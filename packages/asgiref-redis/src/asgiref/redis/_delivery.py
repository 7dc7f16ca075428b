"""What ``application_send`` can ask for, and what the gateway counts."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """Which event is being delivered.

    Attributes:
        id: the same whenever this event is delivered, and no other event's. An application that
            gets a message again and sends the same once more sends it under the same id, too.
        redelivered: it may have been delivered before, or was sent for a message that was
            redelivered.
        partition: the number of its partition.
    """

    id: str
    redelivered: bool
    partition: int


#: What is being delivered in the present context.
current: ContextVar[Delivery | None] = ContextVar("asgiref.redis.delivery", default=None)


@dataclass(slots=True)
class Counts:
    """What a gateway has counted. Events but for ``stored``, which counts messages."""

    stored: int = 0
    delivered: int = 0
    redelivered: int = 0
    failed: int = 0
    dead: int = 0
