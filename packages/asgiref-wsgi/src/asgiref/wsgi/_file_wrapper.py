"""``wsgi.file_wrapper``: a file as an iterable of blocks (PEP 3333, "Optional Platform-Specific
File Handling").

The file is read from its present position to its end; a Content-Length given to start_response
ends it earlier, as it does for every response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol


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
