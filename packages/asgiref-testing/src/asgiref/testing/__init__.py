"""Drive an ASGI application from a test."""
