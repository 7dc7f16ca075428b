"""Run an ASGI application under a WSGI server (PEP 3333).

The modules, in the order in which a request passes through them: `adapter` (the application and its
options), `running` (the application in one process), `loops` (the event loop and its thread),
`lifespan`, `scope` (the environ as a scope), `call` (one request on the event loop), `head` (the
rules for the response), `request_body` and `response` (the request on the server's thread), and
`threads` (threads, locks and channels, also with gevent).
"""
