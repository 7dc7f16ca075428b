"""asgiref.server past one machine: a gateway and any number of workers, through Redis Streams.

A `RedisGateway` is the process with the connection to a chat network, a queue or the like: a
``StatelessServer`` of which ``handle`` and ``application_send`` are written as ever. The
applications of its scopes run in `RedisWorker` processes, on any host::

    python -m asgiref.redis worker module:application --url redis://... --group bots

    outside -> handle -> backlog -> [in, one stream a partition] -> worker -> application
    outside <- application_send  <- [out, one stream a partition] <-      <-

The rules that everything here serves:

1. *Affinity.* A scope belongs to a partition for ever: a hash of its id (`_keys`). At most one
   worker of a group holds a partition, by a lease that it renews (`_holdings`). A scope's messages
   are handled by one application at a time, in order (`_line`).
2. *Fencing.* Each lease has a token. Every write names it, and the script that writes compares it,
   in one step (`_scripts`). So who was stopped, and wakes up when another one holds the partition,
   can do nothing any more; and a worker stops a partition's applications by its own clock, before
   Redis gives the lease away. (What an application does elsewhere, in a database say, no lease can
   prevent in the moment of waking up. The scope's ``"redis"`` has the token, to be compared there.)
3. *Nothing is lost.* A message is acknowledged when its application asks for the next one or
   returns. What an application sends while it has a message in hand is written before the
   acknowledgement. A partition that is taken over begins with what is pending.
4. *Nothing comes twice unsaid.* A message that an application may have seen before is marked
   ``"redelivered"``. What cannot have been seen is not: a holder that hands over in order says so,
   and what it had only read is delivered as new. Events have ids, and a mark of their own
   (`RedisGateway.delivery`).
5. *One bad message holds up nothing.* With so many failures of its application it becomes a dead
   letter, as an entry does that nobody can read, and a message that kills its worker (`_attempts`).
   Attempts are counted in Redis, across workers. The scope waits meanwhile, others of its partition
   do not.
6. *Memory is bounded.* A stream takes no more than ``stream_limit`` entries; when it is full, the
   gateway's ``put`` or the application's ``send`` waits. It is trimmed behind what every group has
   acknowledged, never before that. A worker reads ``prefetch`` messages of a partition ahead.
7. *Everything may be repeated.* A connection can break after Redis has done something and before it
   has said so. Each step can be made twice without harm (`_scripts`), so after an error it is.

A lost connection is tried again after a growing, random time, for ever; leases that run out
meanwhile are given up, and taken again afterwards.

Where Redis is, a URL says: ``redis://USER:PASSWORD@HOST:PORT/DATABASE``, ``rediss://`` for TLS
(with ``?ssl_ca_certs=FILE`` and the other options of redis-py), ``unix://PATH``,
``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE`` or
``redis+cluster://HOST:PORT,HOST:PORT``.

The modules, from the outside in:

- ``_gateway``: the gateway; ``_queue``, ``_backlog``: what it takes; ``_session``: one run of it;
- ``_inlet``, ``_outlet``: both directions of a partition there, of which ``_gate`` is what they
  have in common; ``_delivery``: what ``application_send`` can ask for;
- ``_worker``: the worker; ``_running``: one run of an application; ``_line``: a scope's messages,
  ``_attempts``: how often each was tried; ``_admission``: which lines may be busy; ``_host``: what
  all of these see of the worker, ``_counts``: what it counts;
- ``_partition``: a partition that is held; ``_exchange``: what it says to Redis, ``_writes``: and
  what of that is events and acknowledgements; ``_holdings``: which are held, by ``_shares``, and
  what ``_lease_calls`` say;
- ``_pump``: what all partitions have to say, in few round trips; ``_listener``: being woken;
- ``_client``: Redis, which is one server (``_single``) or a ``_cluster``; ``_address``: where;
  ``_driver``: redis-py;
- ``_scripts``, ``_worker_scripts``, ``_status_scripts``: what Redis does in one step;
  ``_packing``, ``_codec``, ``_entries``, ``_keys``: how things are written there, and
  ``_explained``: what a dead letter says of an exception;
- ``_status``, ``_status_table``, ``_metrics``: what can be seen; ``_cli``: the command line.
"""

from ._delivery import Delivery
from ._errors import CannotStart, ConnectionTaken, LeaseLost, RedisServerError
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

__version__ = "1.0.0"
