"""The Flask application: the page, the guestbook, and data that streams in and out.

It is ordinary synchronous Flask code, independent of asyncio; ``WsgiToAsgi`` (in ``web``) runs each
request on a worker thread. It reads an upload block by block while the browser still sends, and
generates a download while the browser reads it, so memory never holds the whole body.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flask import Flask, Response, redirect, render_template, request, send_from_directory
from werkzeug.exceptions import BadRequest, Conflict

from .storage import connected
from .trace import Trace

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = 64 * 1024
MAX_SAMPLE_MIB = 1024
MAX_NAME, MAX_TEXT = 40, 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL,
    signed TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M', 'now', 'localtime')));
"""

KillWorker = Callable[[str], bool]
"""Kills the worker of this name; returns false if there is none."""


def make_flask(folder: Path, trace: Trace, facts: dict[str, Any], kill: KillWorker) -> Flask:
    """Build the WSGI application, with its data in ``folder``; the page shows the ``facts``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.sqlite3"
    with connected(path) as database:
        database.executescript(_SCHEMA)
    app = Flask(__name__, static_folder=None, template_folder=".")
    app.config["MAX_CONTENT_LENGTH"] = 1 << 30

    @app.before_request
    def note_view() -> None:
        trace.ran("Flask view (WsgiToAsgi)")

    @app.get("/")
    def index() -> str:
        query = "SELECT name, text, signed FROM entry ORDER BY id DESC LIMIT 20"
        with connected(path) as database:
            return render_template("page.html", entries=database.execute(query), **facts)

    @app.get("/repository/<any(docs, demo):folder>/<path:name>")
    def repository(folder: str, name: str) -> Response:
        """Serve the documentation and the source of the demo from this checkout."""
        return send_from_directory(REPOSITORY / folder, name, mimetype="text/plain")

    @app.post("/guestbook")
    def sign() -> Any:
        name, text = (request.form.get(field, "").strip() for field in ("name", "text"))
        if not 0 < len(name) <= MAX_NAME or not 0 < len(text) <= MAX_TEXT:
            raise BadRequest(f"A signature needs a name and a text of up to {MAX_TEXT} characters.")
        with connected(path) as database:
            database.execute("INSERT INTO entry (name, text) VALUES (?, ?)", (name, text))
        trace.publish("guestbook", name=name, text=text)
        # 303: the browser fetches the page with GET, so that a reload does not sign again.
        return redirect("/#guestbook", 303)

    @app.post("/kill")
    def kill_worker() -> dict[str, str]:
        """Kill a worker by its name: a request must not choose a process id."""
        name = request.form.get("worker", "")
        if not kill(name):
            raise Conflict(f"{name!r} is not a running worker of this demo.")
        return {"killed": name}

    _add_streams(app, trace)
    return app


def _add_streams(app: Flask, trace: Trace) -> None:
    @app.put("/upload")
    def upload() -> dict[str, Any]:
        where, digest, size = trace.ran("Streamed upload"), hashlib.sha256(), 0
        while block := request.stream.read(BLOCK):
            digest.update(block)
            size += len(block)
        return {"size": size, "sha256": digest.hexdigest(), "where": asdict(where)}

    @app.get("/sample/<int:mib>")
    def sample(mib: int) -> Response:
        if not 1 <= mib <= MAX_SAMPLE_MIB:
            raise BadRequest(f"A sample has 1 to {MAX_SAMPLE_MIB} MiB.")

        def traced() -> Iterator[bytes]:
            trace.ran("Streamed download")
            yield from made_up(mib)

        # Without a Content-Length, the server sends each chunk as soon as it exists.
        return Response(traced(), mimetype="application/octet-stream")


def made_up(mib: int) -> Iterator[bytes]:
    """Yield bytes made during the download: each block repeats the SHA-256 of its number."""
    for number in range((mib << 20) // BLOCK):
        yield hashlib.sha256(str(number).encode()).digest() * (BLOCK // 32)
