"""A Flask application behind WsgiToAsgi, with a page for each case that is difficult on servers."""

import contextvars
import hashlib
import io
import threading
from pathlib import Path

from flask import Flask, Response, redirect, request, send_file, session, url_for

from asgiref.sync import async_to_sync
from asgiref.wsgi import WsgiToAsgi

site = Flask(__name__)
site.secret_key = "not secret"
BLOCK = bytes(range(256)) * 256  # 64 kB
happened = {name: threading.Event() for name in ("closed", "oserror")}
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@site.get("/")
def hello():
    return "Hello"


@site.route("/form", methods=["GET", "POST"])
def form():
    if request.method == "POST":
        session["name"] = request.form["name"]
        return redirect(url_for("form"))
    return f"Hello {session['name']}"


@site.post("/digest")
def digest():
    seen = hashlib.sha256()
    while block := request.stream.read(65536):
        seen.update(block)
    return seen.hexdigest()


@site.get("/download/<int:blocks>")
def download(blocks):
    return Response((BLOCK for _ in range(blocks)), mimetype="application/octet-stream")


@site.get("/file")
def file():
    return send_file(io.BytesIO(BLOCK * 4), mimetype="application/octet-stream")


@site.get("/endless")
def endless():
    def blocks():
        try:
            while True:
                yield BLOCK
        finally:
            happened["closed"].set()

    return Response(blocks())


@site.post("/upload-that-breaks-off")
def upload_that_breaks_off():
    try:
        return str(len(request.stream.read()))
    except OSError:
        happened["oserror"].set()
        raise


@site.get("/await/<name>")
def await_event(name):
    return "yes" if happened[name].wait(10) else "no"


@site.put("/refused")
def refused():
    return "too large", 417


@site.get("/failing")
def failing():
    def blocks():
        yield b"begun"
        raise LookupError("on purpose")

    return Response(blocks())


@site.get("/variable")
def leak():
    before = variable.get()
    variable.set("leaked")
    return before


@site.get("/scope-variable")
def from_middleware():
    return middleware_variable.get()


@site.get("/loop")
def loop():
    async def running():
        return "the server's" if threading.current_thread() is server_thread else "another"

    return async_to_sync(running)()


@site.get("/memory")
def memory():
    """Return the process's memory in kB: the peak since the last call, and the current value."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, now = (int(status[key].split()[0]) for key in ("VmHWM", "VmRSS"))
    Path("/proc/self/clear_refs").write_text("5")
    return {"peak": peak, "now": now}


middleware_variable: contextvars.ContextVar[str] = contextvars.ContextVar("middleware_variable")
server_thread = threading.main_thread()
adapter = WsgiToAsgi(site.wsgi_app, workers=8)


async def application(scope, receive, send):
    if scope["type"] == "http":
        middleware_variable.set(f"middleware saw {scope['path']}")
    await adapter(scope, receive, send)
