"""Factories for gunicorn: one small ASGI application in each of two adapters."""

from typing import Any

from asgi_to_wsgi_cases import hello


def asgi_to_wsgi() -> Any:
    from asgiref.wsgi import AsgiToWsgi

    return AsgiToWsgi(hello, lifespan="off")


def a2wsgi() -> Any:
    from a2wsgi import ASGIMiddleware

    return ASGIMiddleware(hello)


def bare() -> Any:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"Hello"]

    return application
