"""One small WSGI application: `hello` for gunicorn, and factories that adapt it for uvicorn."""

from collections.abc import Iterable
from typing import Any


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"Hello"]


def wsgi_to_asgi() -> Any:
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(hello)


def a2wsgi() -> Any:
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(hello, workers=40)
