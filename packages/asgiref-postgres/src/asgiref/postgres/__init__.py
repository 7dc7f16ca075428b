"""Run `asgiref.server` on many hosts: one gateway and any number of workers, over PostgreSQL.

A `PostgresGateway` holds the connection to the outside; `PostgresWorker` processes run the
applications of its scopes. The session that holds a partition's advisory lock owns its scopes.

- ``_gateway``, ``_worker``: the two kinds of process; ``_instances``: the applications;
- ``_pump``: the transaction loop; ``_delivery``: the messages each transaction reads and writes;
- ``_outbox``: messages to insert; ``_monitoring``: health and metrics;
- ``_database``: a session; ``_schema``: tables and SQL functions; ``_codec``: bytes and errors;
- ``_send``: sending from anywhere; ``_admin`` and ``__main__``: the commands.
"""

from ._codec import CannotStart, PostgresServerError, SessionLost
from ._database import Database, migrate
from ._delivery import Limits
from ._gateway import Delivered, PostgresGateway, ScopeQueue
from ._pump import Counts
from ._send import send, send_sync
from ._worker import PostgresWorker

__all__ = [
    "CannotStart",
    "Counts",
    "Database",
    "Delivered",
    "Limits",
    "PostgresGateway",
    "PostgresServerError",
    "PostgresWorker",
    "ScopeQueue",
    "SessionLost",
    "migrate",
    "send",
    "send_sync",
]

__version__ = "1.0.0"
