"""One small ASGI application in two adapters: factories for gunicorn."""

from typing import Any

from asgi_to_wsgi_cases import hello


def asgi_to_wsgi() -> Any:
    from asgiref.wsgi import AsgiToWsgi

    return AsgiToWsgi(hello, lifespan="off")


def a2wsgi() -> Any:
    from a2wsgi import ASGIMiddleware

    return ASGIMiddleware(hello)
