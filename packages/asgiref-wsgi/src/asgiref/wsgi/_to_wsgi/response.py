"""Handles one request on the server's thread: reads the body on demand, iterates over the response.

The thread waits only for the parts that the application's task puts into the channel. A request for
a chunk of the body is such a part, so the body is read on the only thread that PEP 3333 allows. If
the thread stops before the end, it tells the application.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from .._errors import ClientDisconnected, safe_repr
from .._file_wrapper import FileWrapper
from .._types import ExcInfo
from .call import ApplicationCall, Failure, Opening, Part, Signal, as_exception
from .client import CHECK_INTERVAL
from .head import Head
from .loops import BackgroundLoop
from .request_body import RequestBody
from .running import RunningApplication
from .threads import ThreadQueue

_logger = logging.getLogger("asgiref.wsgi")

StartResponse = Callable[..., Any]

#: Chunks that wait together are joined up to this size.
JOINED_SIZE = 65536


def answer(start_response: StartResponse, status: str, sentence: str) -> list[bytes]:
    """Send a short answer from the adapter itself."""
    body = sentence.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def answer_failure(
    start_response: StartResponse, error: BaseException, sentence: str
) -> list[bytes]:
    """Answer with status 500, and pass the exception to the server."""
    shown = as_exception(error)
    exc_info: ExcInfo = (type(shown), shown, shown.__traceback__)
    # Omit the length, because uWSGI sends no body after exc_info.
    headers = [("Content-Type", "text/plain")]
    try:
        start_response("500 Internal Server Error", headers, exc_info)
    finally:
        del exc_info, shown  # PEP 3333: no circular reference through the frame
    return [sentence.encode()]


class ServerSide:
    """One request on the server's side: `open` it, iterate over the result, close the result."""

    def __init__(
        self,
        application: RunningApplication,
        thread: BackgroundLoop,
        call: ApplicationCall,
        channel: ThreadQueue[Part],
        body: RequestBody,
        has_left: Callable[[], bool] | None,
    ) -> None:
        self._application = application
        self._thread = thread
        self._call = call
        self._channel = channel
        self._body = body
        self._has_left = has_left
        self._input_error: Exception | None = None
        self._ready: Part | None = None  # removed from the channel, and next to be sent
        self._is_over = False
        self._process = os.getpid()

    def open(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Start the application, wait for the head of its response, and return the response."""
        try:
            self._application.begin(self._thread, self._call)
            part = self._next_part()
            if isinstance(part, Failure):
                return self._answer_failure(start_response, part.error)
            assert isinstance(part, Opening)  # every response starts with it
            return self._respond(part, environ, start_response)
        except BaseException:
            self.close()
            raise

    def _answer_failure(self, start_response: StartResponse, error: BaseException) -> list[bytes]:
        self._is_over = True
        if self._input_error is not None:
            raise self._input_error  # the server handles a client that left
        _logger.error("The ASGI application failed: %s", safe_repr(error), exc_info=error)
        return answer_failure(start_response, error, "Internal Server Error")

    def _respond(
        self, opening: Opening, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        head = opening.head
        self._is_over = opening.is_last
        if opening.path is not None:
            try:
                file = open(opening.path, "rb")  # noqa: SIM115 - the server closes it
            except OSError as error:
                return self._answer_failure(start_response, error)
            return _send_file(file, head, environ, start_response)
        start_response(head.status, head.headers)
        if opening.is_last:
            return [opening.chunk] if opening.chunk else []
        self._ready = opening.chunk
        return self

    # The iterable of a response in several chunks

    def __iter__(self) -> ServerSide:
        return self

    def __next__(self) -> bytes:
        if self._is_over:
            raise StopIteration
        try:
            part = self._next_part()
            if isinstance(part, bytes):
                return self._joined(part)
        except BaseException:
            self.close()
            raise
        self._is_over = True
        if isinstance(part, Failure):
            raise self._input_error or as_exception(part.error)
        raise StopIteration

    def _joined(self, chunk: bytes) -> bytes:
        """Join the chunk with those queued behind it: a handover costs more than the copy."""
        chunks, size = [chunk], len(chunk)
        while size < JOINED_SIZE and not self._channel.empty():
            part = self._take_part()
            if not isinstance(part, bytes):
                # Also if it is Signal.READ: the client may wait for these chunks before it sends
                # the rest of its request.
                self._ready = part
                break
            chunks.append(part)
            size += len(part)
        return chunk if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Abandon the response unless it is complete. Called by the server."""
        if self._is_over or self._process != os.getpid():
            return
        self._is_over = True
        self._application.abandon(self._thread, self._call)

    def __del__(self) -> None:
        # Middleware may forget to call `close`.
        self.close()

    # The parts from the application's task

    def _next_part(self) -> Part:
        """Wait for the next part of the response; meanwhile, read the body on demand."""
        while (part := self._take_part()) is Signal.READ:
            self._read()
        return part

    def _take_part(self) -> Part:
        """Wait for the next part, and remove it from the channel."""
        if self._ready is not None:
            part, self._ready = self._ready, None
            return part
        part = self._wait()
        if isinstance(part, bytes):
            self._call.outgoing.take(len(part))
        elif isinstance(part, Opening):
            self._call.outgoing.take(len(part.chunk))
        return part

    def _wait(self) -> Part:
        if self._has_left is None:
            return self._channel.get()
        while True:
            try:
                return self._channel.get(timeout=CHECK_INTERVAL)
            except queue.Empty:
                if self._has_left():
                    # With this errno servers do not log a traceback.
                    raise ClientDisconnected(errno.EPIPE, "the client has left") from None

    def _read(self) -> None:
        try:
            chunk, more = self._body.read()
        except Exception as error:
            # Tell the application that its client has left, and raise the server's own error in the
            # server.
            self._input_error = error
            self._application.abandon(self._thread, self._call)
            return
        self._thread.run(self._call.add_body, chunk, more)


def _send_file(
    file: BinaryIO, head: Head, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    """Pass the file to the server, which closes it."""
    try:
        start_response(head.status, head.headers)
        wrapper = environ.get("wsgi.file_wrapper", FileWrapper)
        wrapped: Iterable[bytes] = wrapper(file, JOINED_SIZE)
    except BaseException:
        file.close()
        raise
    return wrapped
