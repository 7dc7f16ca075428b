"""``wsgi.file_wrapper``: a file as an iterable of blocks (PEP 3333, "Optional Platform-Specific
File Handling").

The file is read from its present position to its end; a Content-Length given to start_response
ends it earlier, as it does for every response.

A server that offers ``http.response.pathsend`` or ``http.response.zerocopysend`` sends the file
itself, and no block of it comes through Python. That is for files whose bytes are those on the
disk: what a `BufferedReader` or a `FileIO` reads. (A `gzip.GzipFile` has a descriptor, too.) By its
path a file can only be sent whole, and only if the path still leads to this very file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Container, Iterator
from typing import Any, Protocol

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"


class SupportsRead(Protocol):
    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """Iterates over `file` in blocks of at most `block_size` bytes.

    It has a `close` exactly when the file has one, as PEP 3333 demands.

    >>> import io
    >>> list(FileWrapper(io.BytesIO(b"abcde"), 2))
    [b'ab', b'cd', b'e']
    """

    close: Callable[[], object]

    def __init__(self, file: SupportsRead, block_size: int = 65536) -> None:
        self.file = file
        self.block_size = block_size
        close = getattr(file, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        read, block_size = self.file.read, self.block_size
        while block := read(block_size):
            yield block


def sending_event(
    wrapper: FileWrapper, offers: Container[str], length: int | None, *, at_start: bool
) -> tuple[dict[str, Any], int] | None:
    """The event that has the server send the file, and the number of bytes; None if it cannot.

    `offers` are the server's extensions, `length` is what is left of the promised Content-Length,
    and `at_start` tells that nothing of the body was sent yet.
    """
    file = wrapper.file
    if not isinstance(file, io.BufferedReader | io.FileIO):
        return None
    try:
        state = os.fstat(file.fileno())
        offset = file.tell()
    except (OSError, ValueError):
        return None
    count = state.st_size - offset if length is None else length
    if not stat.S_ISREG(state.st_mode) or not 0 < count <= state.st_size - offset:
        return None  # reading it will tell what is wrong, or that it is empty
    if PATHSEND in offers and at_start and count == state.st_size:
        path = _path_of(file.name, state)
        if path is not None:
            return {"type": PATHSEND, "path": path}, count
    if ZEROCOPYSEND in offers:
        return {"type": ZEROCOPYSEND, "file": file, "offset": offset, "count": count}, count
    return None


def _path_of(name: object, state: os.stat_result) -> str | None:
    if not isinstance(name, str):
        return None
    path = os.path.abspath(name)
    try:
        return path if os.path.samestat(os.stat(path), state) else None
    except OSError:
        return None
