"""Replace another project's adapter with WsgiToAsgi, if ours is installed.

``DEPENDENTS_ADAPTER`` names a function below, which replaces the adapter. asgiref 3.13.0 takes no
part in these runs: its side shows which tests pass with the project's own adapter.
"""

import asyncio
import importlib
import io
import os


def install():
    """Replace the adapter that the variable names; do nothing with asgiref 3.13.0."""
    name = os.environ.get("DEPENDENTS_ADAPTER")
    if name and hasattr(importlib.import_module("asgiref.wsgi"), "__version__"):
        globals()["replace_" + name]()


def in_place_of(original):
    """Return a WsgiToAsgi with the name of another adapter and the options that both have."""
    from asgiref.wsgi import WsgiToAsgi

    class Adapter(WsgiToAsgi):
        def __init__(self, application, *args, **options):
            super().__init__(application, workers=options.get("workers"))

        @property
        def app(self):
            """The application, under a2wsgi's name for it; connexion replaces it."""
            return self.wsgi_application

        @app.setter
        def app(self, application):
            self.wsgi_application = application

    Adapter.__name__ = original.__name__  # pytest uses it in the names of parameters
    return Adapter


def replace_a2wsgi():
    import a2wsgi
    import a2wsgi.wsgi

    a2wsgi.WSGIMiddleware = a2wsgi.wsgi.WSGIMiddleware = in_place_of(a2wsgi.WSGIMiddleware)


def replace_uvicorn():
    replace_a2wsgi()
    from uvicorn.middleware import wsgi

    wsgi._WSGIMiddleware = in_place_of(wsgi._WSGIMiddleware)


def replace_starlette():
    from starlette.middleware import wsgi

    wsgi.WSGIMiddleware = in_place_of(wsgi.WSGIMiddleware)


def replace_hypercorn():
    from hypercorn import app_wrappers

    from asgiref.wsgi import WsgiToAsgi

    class Wrapper:
        def __init__(self, application, max_body_size):
            self.adapter = WsgiToAsgi(application, max_body_size=max_body_size)

        async def __call__(self, scope, receive, send, sync_spawn, call_soon):
            await self.adapter(scope, receive, send)

    app_wrappers.WSGIWrapper = Wrapper


def replace_werkzeug():
    """Send each request of werkzeug's test client through the adapter and back."""
    import werkzeug.test

    run = werkzeug.test.run_wsgi_app

    def run_there_and_back(app, environ, buffered=False):
        if "REQUEST_METHOD" not in environ:  # a test that is not about HTTP
            return run(app, environ, buffered)
        return run(there_and_back(app), environ, buffered)

    werkzeug.test.run_wsgi_app = run_there_and_back


def there_and_back(application):
    """A WSGI application that calls another one through ASGI.

    An ASGI scope cannot carry the objects that a test client adds to the CGI variables of the
    environ; they are passed on here, so that the tests are about the request.
    """
    from werkzeug.http import HTTP_STATUS_CODES

    from asgiref.sync import async_to_sync
    from asgiref.wsgi import WsgiToAsgi, WsgiToAsgiInstance

    class Instance(WsgiToAsgiInstance):
        def build_environ(self, scope, body):
            return super().build_environ(scope, body) | scope["extra"]

    class Adapter(WsgiToAsgi):
        instance_class = Instance

    # Run on the thread of the caller, which waits in async_to_sync.
    adapter = Adapter(application, thread_sensitive=True)

    def call(environ, start_response):
        scope, body = scope_of(environ)
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        events = []

        async def receive():
            return messages.pop() if messages else await asyncio.Future()

        async def send(event):
            events.append(event)

        async_to_sync(adapter)(scope, receive, send)
        start, *rest = events
        headers = [
            (name.decode("latin-1").title(), value.decode("latin-1"))
            for name, value in start["headers"]
        ]
        reason = HTTP_STATUS_CODES.get(start["status"], "UNKNOWN").upper()
        start_response(f"{start['status']} {reason}", headers)
        return Chunks(event.get("body", b"") for event in rest)

    return call


class Chunks(list):
    """A response with a `close`, like that of most servers' middleware."""

    def close(self):
        pass


def scope_of(environ):
    """Return the scope and the body of an environ."""
    from werkzeug.datastructures import EnvironHeaders

    def encoded(name):
        return environ.get(name, "").encode("latin-1")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").partition("/")[2],
        "method": environ["REQUEST_METHOD"],
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": (encoded("SCRIPT_NAME") + encoded("PATH_INFO")).decode("utf-8", "surrogateescape"),
        "raw_path": encoded("REQUEST_URI") or None,
        "root_path": encoded("SCRIPT_NAME").decode(),
        "query_string": encoded("QUERY_STRING"),
        "headers": [
            (name.lower().encode("latin-1"), str(value).encode("latin-1"))
            for name, value in EnvironHeaders(environ)
            if value != ""
        ],
        "client": (environ["REMOTE_ADDR"], 0) if environ.get("REMOTE_ADDR") else None,
        "server": (environ.get("SERVER_NAME", "localhost"), int(environ.get("SERVER_PORT", 80))),
        "extra": {key: value for key, value in environ.items() if not is_http(key)},
    }
    return scope, body_of(environ)


def is_http(key):
    """Whether the adapter sets this key of the environ, from the request or by itself."""
    return key.isupper() or (key.startswith("wsgi.") and key != "wsgi.errors")


def body_of(environ):
    """Return the body, and leave it readable for a test that reads it later."""
    stream, length = environ.get("wsgi.input") or io.BytesIO(), environ.get("CONTENT_LENGTH")
    if not length and not environ.get("wsgi.input_terminated"):
        return b""
    body = stream.read(int(length)) if length else stream.read()
    if hasattr(stream, "seek"):
        stream.seek(0)
    return body


install()  # as a plugin of pytest: before the tests import the original adapter
