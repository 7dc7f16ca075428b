"""The server as asgiref-redis was built on it, before `asgiref.server` was rebuilt.

asgiref-redis reaches into its parts, and asgiref-postgres will replace it; until then it keeps this
copy. `StatelessServer` is subclassed; see there. The modules, from the outside in:

- ``_server``: the class, its hooks and settings; ``_main``: running its main coroutine to a clean
  end; ``_termination``: SIGTERM;
- ``_pool``: the life of application instances; ``_idle``: ending quiet ones;
- ``_table``: instances by scope, in the order of their use; ``_instance``: the record of one;
- ``_channel`` and ``_queue``: what an application sends and receives through;
- ``_calls``: calling users' code of either style.
"""

import logging

from ._instance import ApplicationInstance
from ._server import StatelessServer

__all__ = ["ApplicationInstance", "StatelessServer", "logger"]

#: The logger of this package, under the name that asgiref 3.13 gave it.
logger: logging.Logger = logging.getLogger("asgiref.server")
