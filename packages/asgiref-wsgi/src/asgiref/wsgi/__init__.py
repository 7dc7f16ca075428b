"""Run a WSGI application under an ASGI server."""
