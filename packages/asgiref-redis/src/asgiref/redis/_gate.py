"""The gate of one partition at the gateway: what its inlet and its outlet have in common.

Both write under the gateway's token, which is lower than that of any gateway after this one: when
Redis says that the gate is another's, there is one, or a failover has lost that this one ever came.
So the gate is opened once more, which only succeeds in the second case.

    OPEN ── fenced, refused ──> SHUT ── opened ──> OPEN
                                  └─ fenced ──> the connection is another gateway's

An end has one call on its way at a time.
"""

import asyncio
import enum
import logging
from dataclasses import dataclass
from typing import Any, Protocol

from ._backoff import Backoff
from ._client import Call, Refused
from ._errors import ConnectionTaken
from ._keys import PartitionKeys
from ._pump import Station
from ._scripts import FENCED, OPEN
from ._settings import GatewaySettings

logger = logging.getLogger("asgiref.redis")

#: Seconds until a full stream, or a full Redis, is tried again.
FULL_DELAY = 0.1


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes, with which token: what the gates are compared with. And within which limits."""

    settings: GatewaySettings
    token: int

    @property
    def words(self) -> tuple[int, str]:
        """How every script begins."""
        return self.token, self.settings.name


def open_call(keys: PartitionKeys, identity: Identity) -> Call:
    """Opens the gate, and shuts out the gateways before this one."""
    return Call(OPEN, (keys.gate, keys.outgoing), identity.words)


class GateHost(Protocol):
    """What the ends need of the run that they belong to."""

    def mark(self, station: Station) -> None: ...
    def fail(self, error: ConnectionTaken) -> None: ...


class _State(enum.Enum):
    OPEN = "open"
    SHUT = "shut"


class Gate:
    """One end of a partition.

    Args:
        is_open: whether the gate has been opened for this gateway.
    """

    def __init__(
        self, keys: PartitionKeys, identity: Identity, host: GateHost, *, is_open: bool
    ) -> None:
        self.keys: PartitionKeys = keys
        self.place: str = keys.gate
        self._identity = identity
        self._host = host
        self._busy = False
        self._state = _State.OPEN if is_open else _State.SHUT
        self._backoff = Backoff(FULL_DELAY)

    def next_call(self) -> Call | None:
        if self._busy:
            return None
        call = self._call() if self._state is _State.OPEN else open_call(self.keys, self._identity)
        self._busy = call is not None
        return call

    def unanswered(self) -> None:
        self._busy = False

    def answered(self, answer: Any) -> None:
        self._busy = False
        if isinstance(answer, Refused):
            self._refused(answer)
        elif answer == FENCED and self._state is _State.SHUT:
            name = self._identity.settings.connection
            self._host.fail(ConnectionTaken(f"Another gateway took the connection {name!r}."))
        elif answer == FENCED:
            self._state = _State.SHUT
            self._host.mark(self)
        elif self._state is _State.SHUT:
            self._state = _State.OPEN
            self._opened(answer)
            self._host.mark(self)
        else:
            self._backoff.reset()
            self._done(answer)

    def _refused(self, error: Refused) -> None:
        if error.out_of_memory:
            self._later(FULL_DELAY)
            return
        seconds = self._backoff.next()
        text = str(error).rstrip(".")
        logger.error("Partition %d: %s. Trying again in %.1f s.", self.keys.number, text, seconds)
        self._state = _State.SHUT
        self._later(seconds)

    def _later(self, seconds: float = FULL_DELAY) -> None:
        asyncio.get_running_loop().call_later(seconds, self._host.mark, self)

    def _opened(self, last: bytes) -> None:
        """The gate has been opened; ``last`` is the last event that was ever delivered."""

    def _call(self) -> Call | None:
        raise NotImplementedError

    def _done(self, answer: Any) -> None:
        raise NotImplementedError
