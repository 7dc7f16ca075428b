"""Run a WSGI application (PEP 3333) under an ASGI server.

The parts, in the order in which a request meets them: `_adapter` (the public classes: one ASGI
call from scope to end), `_input` (the body on its way in), `_environ` (the scope as an environ),
`_response` (the rules of start_response and of the body), `_outbox` (events on their way out), and
`_workers` (the threads).
"""

from ._adapter import WsgiToAsgi, WsgiToAsgiInstance

__all__ = ["WsgiToAsgi", "WsgiToAsgiInstance"]
