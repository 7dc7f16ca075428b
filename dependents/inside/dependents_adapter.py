"""Replace another project's adapter with WsgiToAsgi, if ours is installed.

``DEPENDENTS_ADAPTER`` names the replaced objects. asgiref 3.13.0 takes no part in these runs: its
side shows which tests pass with the project's own adapter.
"""

import asyncio
import importlib
import os

from asgiref.sync import async_to_sync

NESTED = "dependents.nested"


def install():
    """Replace the objects that the variable names; do nothing with asgiref 3.13.0."""
    if not hasattr(importlib.import_module("asgiref.wsgi"), "__version__"):
        return
    for path in os.environ["DEPENDENTS_ADAPTER"].split():
        owner, _, name = path.rpartition(".")
        module = importlib.import_module(owner)
        substitute = through_asgi if name == "run_wsgi_app" else in_place_of
        setattr(module, name, substitute(getattr(module, name)))


def in_place_of(original):
    """Return a WsgiToAsgi with another adapter's name and the options that both have."""
    from asgiref.wsgi import WsgiToAsgi

    class Adapter(WsgiToAsgi):
        def __init__(self, application, max_body_size=None, *, workers=None, **others):
            super().__init__(application, max_body_size=max_body_size, workers=workers)

        async def __call__(self, scope, receive, send, *spawners):  # hypercorn's have two
            await super().__call__(scope, receive, send)

        # a2wsgi's name for the application, which connexion replaces
        app = property(
            lambda self: self.wsgi_application,
            lambda self, application: setattr(self, "wsgi_application", application),
        )

    Adapter.__name__ = original.__name__  # pytest uses it in the names of parameters
    return Adapter


def through_asgi(run_wsgi_app):
    """Return werkzeug's function that calls an application, with both our adapters in between."""

    def run(application, environ, buffered=False):
        # Leave out tests that are not about HTTP, and an application that calls another one itself.
        if "REQUEST_METHOD" in environ and NESTED not in environ:
            application = there_and_back(application)
        return run_wsgi_app(application, environ, buffered)

    return run


def there_and_back(application):
    """Return a WSGI application that calls another one through ASGI.

    AsgiToWsgi runs an ASGI application on its own thread, but the tests need theirs. So it records
    the request, WsgiToAsgi serves that on this thread, and AsgiToWsgi replays the response. The
    objects that a test client adds to the environ are passed on here.
    """
    from asgiref.wsgi import AsgiToWsgi, WsgiToAsgi

    def call(environ, start_response):
        request, response = asyncio.Queue(), asyncio.Queue()

        async def record(scope, receive, send):
            await request.put(scope)
            event = {"more_body": True}
            while event.get("more_body"):
                event = await receive()
                await request.put(event)
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        async def replay(scope, receive, send):
            while not response.empty():
                await send(response.get_nowait())

        def with_additions(made, start_response):
            # The adapter sets these keys itself: those of the request and most of WSGI's.
            keys = (key for key in environ if not key.isupper() and not key.startswith("wsgi."))
            added = {key: environ[key] for key in (*keys, "wsgi.errors")}
            return application(made | added | {NESTED: True}, start_response)

        def start(status, *rest):
            return start_response(status.upper(), *rest)  # as werkzeug writes it

        list(AsgiToWsgi(record, lifespan="off")(environ, lambda *_: None))
        serve = async_to_sync(WsgiToAsgi(with_additions, thread_sensitive=True))
        serve(request.get_nowait(), request.get, response.put)
        environ["wsgi.input"].seek(0)  # for the replay, and for a test that reads it again
        return AsgiToWsgi(replay, lifespan="off")(environ, start)

    return call


install()  # as a plugin of pytest: before the tests import the original adapter
