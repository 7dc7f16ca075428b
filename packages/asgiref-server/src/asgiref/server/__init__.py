"""Servers without incoming connections: chat bots, queue workers, long polling, radio.

`StatelessServer` is subclassed; see there. The modules, from the outside in:

- ``_server``: the class, its hooks and options;
- ``_running``: one run from start to end, reconnecting, signals; ``_lifespan``;
- ``_table``: the instances by scope, their eviction, idle time and succession;
- ``_instance``: the record of one, its ``receive`` and ``send``; ``_queue``: its input queue;
- ``_hooks``: calls of the server's hooks; ``_loop``: tasks, and calls from other threads.
"""

import logging

from ._instance import ApplicationInstance, MessageSource
from ._running import Reconnect
from ._server import StatelessServer

__all__ = ["ApplicationInstance", "MessageSource", "Reconnect", "StatelessServer", "logger"]

__version__ = "1.0.0"

#: The logger of this package, under the name that asgiref 3.13 gave it.
logger: logging.Logger = logging.getLogger("asgiref.server")
