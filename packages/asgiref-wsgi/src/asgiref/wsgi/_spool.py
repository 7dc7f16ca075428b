"""Receives a body without a length completely before the application starts.

Django, Falcon, Bottle and other frameworks assume that a request without CONTENT_LENGTH has no
body. The length is known only once the whole body has arrived. Until then, the body is kept in
memory at first and later in a temporary file, and only the request's task accesses it.
"""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO, cast

from asgiref.sync import sync_to_async

from ._errors import BodyTooLarge
from ._input import RequestInput

IN_MEMORY = 1024 * 1024
"""Up to this many bytes stay in memory; also the size of each write to the file."""


async def spool(source: RequestInput, maximum: int) -> tuple[BinaryIO, int] | None:
    """Receive the rest of a body; return it with its length, or None if the client left.

    Raises BodyTooLarge for a body of more than `maximum` bytes, and OSError if the temporary file
    cannot be written.
    """
    spool = _Spool()
    is_kept = False
    try:
        while not source.complete:
            spool.check(source, maximum)
            if source.memory > IN_MEMORY:
                await spool.write(source.take_all())
            if not await source.receive_one():
                return None
        spool.check(source, maximum)
        body = await spool.finish(source.take_all())
        is_kept = True
        return body, spool.length
    finally:
        if not is_kept:
            spool.close()


class _Spool:
    """A growing body, in memory until it needs a file."""

    def __init__(self) -> None:
        self.file: BinaryIO | None = None
        self.length = 0

    def check(self, source: RequestInput, maximum: int) -> None:
        if self.length + source.size > maximum:
            raise BodyTooLarge(f"the request body exceeds {maximum} bytes")

    async def write(self, data: bytes) -> None:
        if self.file is None:
            self.file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - closed later
        self.length += len(data)
        # Write on a worker thread, because the disk may be slow.
        await sync_to_async(self.file.write, thread_sensitive=False)(data)

    async def finish(self, rest: bytes) -> BinaryIO:
        if self.file is None:
            self.length = len(rest)
            return io.BytesIO(rest)
        await self.write(rest)
        self.file.seek(0)
        return self.file

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
