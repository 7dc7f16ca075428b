"""Run a WSGI application (PEP 3333) under an ASGI server, or an ASGI one under a WSGI server.

The modules of `WsgiToAsgi`, in the order in which a request passes through them: `_adapter` (the
application and its options), `_instance` (one ASGI call from scope to end), `_input` (the body on
its way in), `_workers` (the threads), `_environ` (the scope as an environ), `_response` (the rules
for start_response and the body), and `_outbox` (events on their way out). The modules of
`AsgiToWsgi` are in `_to_wsgi`.
"""

from ._adapter import WsgiToAsgi
from ._instance import WsgiToAsgiInstance
from ._to_wsgi.adapter import AsgiToWsgi

__all__ = ["AsgiToWsgi", "WsgiToAsgi", "WsgiToAsgiInstance"]

__version__ = "1.0.0"
