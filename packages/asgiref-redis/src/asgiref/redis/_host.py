"""What partitions and lines ask of their worker, and the worker's applications as they see them.

One object between the two, so that `RedisWorker` has no methods but those for its users (whose
subclasses have names of their own), and partitions know no server.

An application that is stopped is cancelled, and may take its time. Until it has ended its partition
is not taken again (`has_ended`), or two would handle one scope. One that takes longer than
``shutdown_timeout``, because it has caught its cancellation and goes on, is cancelled again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from ._admission import Admission
from ._counts import Counts
from ._line import Line, LineState
from ._partition import Partition
from ._pump import Station
from ._server_base import ApplicationInstance

logger = logging.getLogger("asgiref.redis")


class Server(Protocol):
    """What a host needs of the worker."""

    max_applications: int
    shutdown_timeout: float

    @property
    def application_instances(self) -> MutableMapping[Any, ApplicationInstance]: ...
    def get_or_create_application_instance(
        self, scope_id: Any, scope: Any
    ) -> "asyncio.Queue[Any]": ...
    def delete_application_instance(self, scope_id: Any) -> None: ...


class WorkerHost:
    """The host of one worker's partitions.

    Args:
        server: the worker.
        lease: seconds.

    Attributes:
        counts: what it has counted.
        admission: which lines may be busy; `offer`, `withdrawn` and `forget` are its methods.
    """

    def __init__(self, server: Server, lease: float) -> None:
        self._server = server
        self._ending: dict[int, dict[asyncio.Future[Any], float]] = {}  # when it was cancelled
        self.admission: Admission = Admission(lambda: server.max_applications, lease)
        self.offer: Callable[[Line], None] = self.admission.offer
        self.withdrawn: Callable[[Line], None] = self.admission.withdrawn
        self.forget: Callable[[Line], None] = self.admission.forget
        self.counts: Counts = Counts()
        self.mark: Callable[[Station], None] = _nowhere
        self.ended: Callable[[Partition], None] = _nowhere
        self._held: Mapping[int, Partition] = {}

    def connect(
        self,
        mark: Callable[[Station], None],
        ended: Callable[[Partition], None],
        held: Mapping[int, Partition],
    ) -> None:
        """The worker runs: where marks and ends of partitions go to, and the live mapping of the
        partitions that are held."""
        self.mark, self.ended, self._held = mark, ended, held

    # Lines and their applications

    def line_of(self, scope: Any) -> Line | None:
        """The line that an application was started for; None if its partition has gone meanwhile,
        or the scope is none of a partition."""
        place: dict[str, Any] = scope.get("redis", {})
        partition = self._held.get(place.get("partition", -1))
        if partition is None or not partition.is_ours or partition.token != place["token"]:
            return None
        return partition.lines.get(place["scope_id"])

    def line_at(self, scope_id: Any) -> Line | None:
        """The line of a live instance. Raises KeyError if there is no such instance."""
        return self.line_of(self._server.application_instances[scope_id].scope)

    def may_go(self, scope_id: Any) -> bool:
        """Whether a live instance has no message, nor is offered one."""
        line = self.line_at(scope_id)
        return line is None or line.state not in (LineState.OFFERED, LineState.IN_HAND)

    def is_idle(self, scope_id: Any) -> bool:
        """Whether nothing at all waits for a live instance."""
        line = self.line_at(scope_id)
        return line is None or line.state is LineState.IDLE

    def deliver(self, line: Line) -> None:
        """Have the line's application, which is started if need be, receive its first message."""
        if line.queue is None:
            line.queue = self._server.get_or_create_application_instance(line.scope_id, line.scope)
        line.queue.put_nowait(line)

    def stop(self, partition: Partition, scope_id: str) -> None:
        """Cancel a scope's application, if it has one."""
        instance = self._server.application_instances.get(scope_id)
        if instance is not None:
            now = asyncio.get_running_loop().time()
            self._ending.setdefault(partition.number, {})[instance.future] = now
            self._server.delete_application_instance(scope_id)

    def has_ended(self, number: int) -> bool:
        """Whether all applications of a partition that was held have ended."""
        left = self._ending.pop(number, {})
        now = asyncio.get_running_loop().time()
        for future, since in list(left.items()):
            if future.done():
                del left[future]
            elif now > since + self._server.shutdown_timeout:
                future.cancel()
                left[future] = now
                logger.warning(
                    "Partition %d is not taken again before %r has ended, which was cancelled",
                    *(number, future),
                )
        if left:
            self._ending[number] = left
        return not left

    # Numbers

    def count_handled(self) -> None:
        self.counts.handled += 1

    def count_failure(self, buried: bool) -> None:
        self.counts.failed += 1
        self.counts.dead += buried

    def count_redelivered(self) -> None:
        self.counts.redelivered += 1


def _nowhere(_: object) -> None:
    """The worker is not running."""
