"""Servers without incoming connections: chat bots, queue workers, long polling, radio.

Users subclass `StatelessServer`. The modules, from the outside in:

- ``_server``: the base class, its hooks and options;
- ``_running``: one run from start to end, reconnecting, signals; ``_lifespan``;
- ``_table``: the instances by scope: eviction, idle time, succession, calls from other threads;
- ``_instance``: the record of one instance, its ``receive`` and ``send``; ``_queue``: its input
  queue;
- ``_hooks``: the calls to hooks; ``_loop``: tasks and the logger.
"""

from ._instance import ApplicationInstance, MessageSource
from ._loop import logger as logger
from ._running import Reconnect
from ._server import StatelessServer

__all__ = ["ApplicationInstance", "MessageSource", "Reconnect", "StatelessServer", "logger"]

__version__ = "1.0.0"
