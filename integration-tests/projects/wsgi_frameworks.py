"""The same pages in Flask, Django, Falcon, Bottle and plain WSGI, each under its own path."""

import os
import sys
import tempfile
import threading
import types

import bottle
import falcon
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from flask import Flask, request

from asgiref.wsgi import WsgiToAsgi

FILE_SIZE = 200_000
happened = {name: threading.Event() for name in ("silent", "closed", "ask", "gone")}


def make_flask():
    site = Flask(__name__)
    site.post("/")(lambda: str(len(request.get_data())))
    return site


def make_django():
    urls = sys.modules["wsgi_frameworks_urls"] = types.ModuleType("wsgi_frameworks_urls")
    urls.urlpatterns = [path("", lambda request: HttpResponse(str(len(request.body))))]
    settings.configure(
        ROOT_URLCONF="wsgi_frameworks_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[]
    )
    return get_wsgi_application()


def make_falcon():
    class Upload:
        def on_post(self, request, response):
            response.text = str(len(request.bounded_stream.read()))

    site = falcon.App()
    site.add_route("/", Upload())
    return site


def make_bottle():
    def upload():
        # Closed, because a large body is a named temporary file, which Bottle keeps until the
        # thread's next request. A process that is killed would leave it behind.
        with bottle.request.body as body:
            return str(len(body.read()))

    site = bottle.Bottle()
    site.post("/")(upload)
    return site


def report(environ, start_response):
    """A file that is deleted when the server has finished with it."""
    handle, name = tempfile.mkstemp()
    with os.fdopen(handle, "wb") as file:
        file.write(b"r" * FILE_SIZE)
    start_response("200 OK", [("Content-Type", "text/plain")])
    wrapper = environ["wsgi.file_wrapper"](open(name, "rb"))  # noqa: SIM115 - closed by close()
    close = wrapper.close
    wrapper.close = lambda: (close(), os.remove(name))
    return wrapper


def relay(environ, start_response):
    """The response of a view that copies the headers of another server."""
    start_response(
        "200 OK",
        [("Transfer-Encoding", "chunked"), ("Connection", "close"), ("Keep-Alive", "timeout=5")],
    )
    return [b"relayed"]


def silent(environ, start_response):
    """Yield empty chunks without end, like a view that waits for news."""
    start_response("200 OK", [])
    try:
        while True:
            yield b""
            happened["silent"].set()
    finally:
        happened["closed"].set()


def ask(environ, start_response):
    """Work until the client has left."""
    while environ["asgiref.client_connected"]():
        happened["ask"].set()
        threading.Event().wait(0.01)
    happened["gone"].set()
    start_response("200 OK", [])
    return []


def await_event(environ, start_response):
    name = environ["QUERY_STRING"]
    start_response("200 OK", [])
    return [b"yes" if happened[name].wait(10) else b"no"]


SITES = {
    "flask": make_flask(),
    "django": make_django(),
    "falcon": make_falcon(),
    "bottle": make_bottle(),
    "report": report,
    "relay": relay,
    "silent": silent,
    "ask": ask,
    "await": await_event,
}


def dispatch(environ, start_response):
    name, _, rest = environ["PATH_INFO"].lstrip("/").partition("/")
    environ["PATH_INFO"] = "/" + rest
    return SITES[name](environ, start_response)


application = WsgiToAsgi(dispatch, max_body_size=2_000_000)
