"""The answers that the adapter itself gives: requests that never reach the application."""

from __future__ import annotations

from ._types import Event, Scope


def answer(scope: Scope, status: int, text: str) -> tuple[Event, Event]:
    """The events of a short answer in plain text."""
    body = text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    start: Event = {"type": "http.response.start", "status": status, "headers": headers}
    shown = b"" if scope["method"] == "HEAD" else body
    return start, {"type": "http.response.body", "body": shown}
