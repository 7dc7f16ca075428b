"""The Flask application: the page, the guestbook, and files that stream in and out.

It is ordinary synchronous Flask code, independent of asyncio; ``WsgiToAsgi`` (in ``web``) runs each
request on a worker thread. It reads an upload block by block while the browser still sends, and
makes a download while the browser reads, so memory never holds a whole file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, redirect, render_template, request, send_from_directory
from werkzeug.exceptions import BadRequest, Conflict, NotFound, RequestEntityTooLarge
from werkzeug.utils import secure_filename

from .storage import BLOCK, Storage, TooLarge
from .trace import Kind, Trace

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_UPLOAD = 1 << 30
MAX_SAMPLE_MIB = 1024
_MAX_NAME, _MAX_TEXT = 40, 500

KillWorker = Callable[[str], bool]
"""Kills the worker of this name; returns false if there is none."""


def make_guestbook(
    storage: Storage, trace: Trace, facts: dict[str, Any], kill: KillWorker
) -> Flask:
    """Build the WSGI application; ``facts`` are what the page says about the bot."""
    app = Flask(__name__, static_folder=None, template_folder=".")
    app.before_request(lambda: (trace.ran("Flask view (WsgiToAsgi)"), None)[1])
    _add_pages(app, storage, trace, facts)
    _add_files(app, storage, trace)

    @app.post("/kill")
    def kill_worker() -> dict[str, str]:
        """Kill a worker by its name: a request must not choose a process id."""
        name = request.form.get("worker", "")
        if not kill(name):
            raise Conflict(f"{name!r} is not a running worker of this demo.")
        return {"killed": name}

    return app


def _add_pages(app: Flask, storage: Storage, trace: Trace, facts: dict[str, Any]) -> None:
    @app.get("/")
    def index() -> str:
        entries, files = storage.entries(), storage.files()
        return render_template("page.html", entries=entries, files=files, **facts)

    @app.get("/repository/<any(docs, demo):folder>/<path:name>")
    def repository(folder: str, name: str) -> Response:
        """Serve the documentation and the source of the demo from this checkout."""
        return send_from_directory(REPOSITORY / folder, name, mimetype="text/plain")

    @app.post("/guestbook")
    def sign() -> Any:
        name = request.form.get("name", "").strip()
        text = request.form.get("text", "").strip()
        if not name or not text or len(name) > _MAX_NAME or len(text) > _MAX_TEXT:
            raise BadRequest(
                f"A signature needs a name (1 to {_MAX_NAME} characters) "
                f"and a text (1 to {_MAX_TEXT} characters)."
            )
        storage.add_entry(name, text)
        trace.publish(Kind.GUESTBOOK, name=name, text=text)
        # 303: the browser fetches the page with GET, so that a reload does not sign again.
        return redirect("/#guestbook", 303)


def _add_files(app: Flask, storage: Storage, trace: Trace) -> None:
    @app.put("/files/<name>")
    def upload(name: str) -> Response:
        safe = secure_filename(name)
        if not safe:
            raise BadRequest(f"{name!r} cannot be used as a file name.")
        where = trace.ran("Streamed upload")
        blocks = iter(lambda: request.stream.read(BLOCK), b"")
        try:
            file = storage.write_file(safe, blocks, MAX_UPLOAD)
        except TooLarge as error:
            raise RequestEntityTooLarge(str(error)) from None
        trace.publish(Kind.GUESTBOOK, name=file.name, text=f"{file.size} bytes")
        return jsonify(**asdict(file), where=asdict(where))

    @app.get("/files/<name>")
    def download(name: str) -> Response:
        file = storage.file(name)
        if file is None:
            raise NotFound(f"There is no file {name!r}.")
        response = _streamed(trace, storage.read_file(file.name), file.name)
        response.content_length = file.size
        response.headers["X-SHA256"] = file.sha256
        return response

    @app.get("/sample/<int:mib>")
    def sample(mib: int) -> Response:
        if not 1 <= mib <= MAX_SAMPLE_MIB:
            raise BadRequest(f"A sample has 1 to {MAX_SAMPLE_MIB} MiB.")
        # Without a Content-Length, the server sends each chunk as soon as it exists.
        return _streamed(trace, made_up(mib), f"sample-{mib}.bin")


def _streamed(trace: Trace, blocks: Iterator[bytes], name: str) -> Response:
    def traced() -> Iterator[bytes]:
        trace.ran("Streamed download")
        yield from blocks

    response = Response(traced(), mimetype="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def made_up(mib: int) -> Iterator[bytes]:
    """Yield bytes made during the download: each block repeats the SHA-256 of its number."""
    for number in range(mib << 20 >> 16):
        yield hashlib.sha256(str(number).encode()).digest() * (BLOCK // 32)
