"""PEP 3333's ``wsgi.file_wrapper``: a file as an iterable of blocks.

The file is sent from its current position to its end, or until Content-Length is reached.

A server that offers ``http.response.zerocopysend`` sends the file itself, without passing blocks
through Python. This is used only if reading provably returns the bytes on disk: for a `FileIO`, or
a `BufferedReader` directly over one. All other objects (archives, subclasses that limit or decrypt,
objects without a descriptor) are read block by block.

``http.response.pathsend`` names the file by its path. The server may open it after `send` has
returned (Granian does), and by then the application may have deleted or replaced the file. So this
is used only if the user asks for it.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Container, Iterator
from typing import Protocol, TypeGuard

from ._types import Event

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"


class SupportsRead(Protocol):
    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """Iterates over `file` in blocks of at most `block_size` bytes.

    It has a `close` method if and only if the file has one, as PEP 3333 requires.

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


def usable_offers(extensions: Container[str] | None, *, by_path: bool) -> Container[str]:
    """Return which of the server's two extensions may be used."""
    if not extensions:
        return ()
    names = (PATHSEND, ZEROCOPYSEND) if by_path else (ZEROCOPYSEND,)
    return [name for name in names if name in extensions]


def sending_event(
    wrapper: FileWrapper, offers: Container[str], length: int | None, *, at_start: bool
) -> tuple[Event, int] | None:
    """Return the event that makes the server send the file, and the byte count.

    Return None if the file must be read block by block instead.

    `offers` are the extensions to use, `length` is the rest of the promised Content-Length, and
    `at_start` is true if no part of the body has been sent yet.
    """
    file = wrapper.file
    try:
        if not _is_plain(file):
            return None
        state = os.fstat(file.fileno())
        offset = file.tell()
        count = state.st_size - offset if length is None else length
        if not _has_bytes(file, state, offset, count):
            return None  # reading shows the error, or that the file is empty
    except (OSError, ValueError):
        return None
    if PATHSEND in offers and at_start and count == state.st_size:
        path = _path_of(file.name, state)
        if path is not None:
            return {"type": PATHSEND, "path": path}, count
    if ZEROCOPYSEND in offers:
        return {"type": ZEROCOPYSEND, "file": file, "offset": offset, "count": count}, count
    return None


def _is_plain(file: object) -> TypeGuard[io.FileIO | io.BufferedReader]:
    """Whether reading the file returns exactly the bytes on disk."""
    if type(file) is io.BufferedReader:
        return not _is_patched(file) and type(file.raw) is io.FileIO and not _is_patched(file.raw)
    return type(file) is io.FileIO and file.readable() and not _is_patched(file)


def _is_patched(file: io.FileIO | io.BufferedReader) -> bool:
    """Whether attributes such as `read` were set on the object; `open` sets only these two."""
    return not vars(file).keys() <= {"name", "mode"}


def _has_bytes(
    file: io.FileIO | io.BufferedReader, state: os.stat_result, offset: int, count: int
) -> bool:
    if not stat.S_ISREG(state.st_mode) or not 0 < count <= state.st_size - offset:
        return False
    # Files in sysfs and similar file systems report a wrong size.
    return not hasattr(os, "pread") or len(os.pread(file.fileno(), 1, offset + count - 1)) == 1


def _path_of(name: object, state: os.stat_result) -> str | None:
    if not isinstance(name, str):
        return None
    path = os.path.abspath(name)
    try:
        return path if os.path.samestat(os.stat(path), state) else None
    except OSError:
        return None
