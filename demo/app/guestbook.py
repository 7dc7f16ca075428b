"""The Flask application: the page, the guestbook, and files that stream in and out.

It is ordinary synchronous Flask code, independent of asyncio; ``WsgiToAsgi`` (in ``web``) runs each
request on a worker thread. It reads an upload from ``request.stream`` block by block while the
browser still sends, and produces a download block by block while the browser reads, so memory never
holds a whole file.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, jsonify, redirect, render_template, request, send_from_directory
from werkzeug.exceptions import BadRequest, NotFound, RequestEntityTooLarge
from werkzeug.utils import secure_filename

from .fleet_facts import REPLACE_SECONDS
from .storage import BLOCK, File, Storage, TooLarge
from .trace import Signed, Stored, Tracer

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_UPLOAD = 1 << 30
MAX_SAMPLE_MIB = 1024
_MAX_NAME, _MAX_TEXT = 40, 500


@dataclass(frozen=True, slots=True)
class ChatFacts:
    """The chat's data for the page: the server's address, the bot's nickname, the channel.

    ``workers`` is the number of processes for the bot's scopes, 0 for only this one; ``replace`` is
    the number of seconds until a killed worker is replaced.
    """

    server: str
    bot: str
    channel: str
    embedded: bool
    workers: int = 0
    replace: int = REPLACE_SECONDS


def make_guestbook(storage: Storage, trace: Tracer, chat_facts: Callable[[], ChatFacts]) -> Flask:
    """Build the WSGI application; it calls ``chat_facts`` for each page."""
    app = Flask(__name__, static_folder=None, template_folder=".")
    app.before_request(lambda: _note_view(trace))
    _add_pages(app, storage, trace, chat_facts)
    _add_files(app, storage, trace)
    return app


def _note_view(trace: Tracer) -> None:
    trace.ran("Flask view (WsgiToAsgi)")


def _add_pages(
    app: Flask, storage: Storage, trace: Tracer, chat_facts: Callable[[], ChatFacts]
) -> None:
    @app.get("/")
    def index() -> str:
        entries, files = storage.entries(), storage.files()
        return render_template("page.html", entries=entries, files=files, chat=chat_facts())

    @app.get("/state.json")
    def state() -> Response:
        return jsonify(
            entries=[dataclasses.asdict(entry) for entry in storage.entries()],
            files=[dataclasses.asdict(file) for file in storage.files()],
            chat=dataclasses.asdict(chat_facts()),
        )

    @app.get("/repository/<any(docs, demo):folder>/<path:name>")
    def repository(folder: str, name: str) -> Response:
        """Serve the documentation and the source of the demo from this checkout."""
        return send_from_directory(REPOSITORY / folder, name, mimetype="text/plain")

    @app.post("/guestbook")
    def sign() -> Response:
        name = request.form.get("name", "").strip()
        text = request.form.get("text", "").strip()
        if not name or not text or len(name) > _MAX_NAME or len(text) > _MAX_TEXT:
            raise BadRequest(
                f"A signature needs a name (1 to {_MAX_NAME} characters) "
                f"and a text (1 to {_MAX_TEXT} characters)."
            )
        storage.add_entry(name, text)
        trace.publish(Signed(name, text))
        # 303: the browser fetches the page with GET, so that a reload does not sign again.
        return _as_response(redirect("/#guestbook", 303))


def _as_response(response: object) -> Response:
    """Narrow the type of ``redirect``, which Flask declares as its base class's response."""
    assert isinstance(response, Response)
    return response


def _add_files(app: Flask, storage: Storage, trace: Tracer) -> None:
    @app.put("/files/<name>")
    def upload(name: str) -> Response:
        safe = secure_filename(name)
        if not safe:
            raise BadRequest(f"{name!r} cannot be used as a file name.")
        where = trace.ran("Streamed upload")
        try:
            file = storage.write_file(safe, _incoming(), MAX_UPLOAD)
        except TooLarge as error:
            raise RequestEntityTooLarge(str(error)) from None
        trace.publish(Stored(file.name, file.size))
        return jsonify(**dataclasses.asdict(file), where=dataclasses.asdict(where))

    @app.get("/files/<name>")
    def download(name: str) -> Response:
        file = storage.file(name)
        if file is None:
            raise NotFound(f"There is no file {name!r}.")
        response = Response(_outgoing(storage, trace, file), mimetype="application/octet-stream")
        response.content_length = file.size
        response.headers["Content-Disposition"] = f'attachment; filename="{file.name}"'
        response.headers["X-SHA256"] = file.sha256
        return response

    @app.get("/sample/<int:mib>")
    def sample(mib: int) -> Response:
        if not 1 <= mib <= MAX_SAMPLE_MIB:
            raise BadRequest(f"A sample has 1 to {MAX_SAMPLE_MIB} MiB.")
        # Without a Content-Length, the server sends each chunk as soon as it exists.
        response = Response(_made_up(trace, mib), mimetype="application/octet-stream")
        response.headers["Content-Disposition"] = f'attachment; filename="sample-{mib}.bin"'
        return response


def _incoming() -> Iterator[bytes]:
    """Yield the request's body as it arrives; raise an exception if the browser leaves."""
    while block := request.stream.read(BLOCK):
        yield block


def _outgoing(storage: Storage, trace: Tracer, file: File) -> Iterator[bytes]:
    trace.ran("Streamed download")
    yield from storage.read_file(file.name)


def _made_up(trace: Tracer, mib: int) -> Iterator[bytes]:
    """Yield bytes made during the download: each block repeats the SHA-256 of its number."""
    trace.ran("Streamed download")
    for number in range(mib << 20 >> 16):
        yield hashlib.sha256(str(number).encode()).digest() * (BLOCK // 32)
