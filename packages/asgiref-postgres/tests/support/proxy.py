"""A TCP proxy that cuts connections in the middle of replies, or swallows packets."""

import asyncio
import contextlib
from typing import Any


class Proxy:
    """Forwards bytes between clients and a local port."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cut_after: int | None = None
        #: Cut in the middle of the reply to the next request that holds these bytes.
        self.cut_reply_to: bytes | None = None
        self.swallows = False

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._transports:
            writer.transport.abort()
        self._transports.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, back)
        self._transports.update(pair)
        for source, target, is_reply in ((reader, back, False), (there, writer, True)):
            task = asyncio.get_running_loop().create_task(
                self._pass_on(source, target, pair, is_reply)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
        is_reply: bool,
    ) -> None:
        swallowing = False
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                swallowing = swallowing or self.swallows
                if swallowing:  # permanently: this connection is dead from now on
                    continue
                if not is_reply and self.cut_reply_to is not None and self.cut_reply_to in data:
                    self.cut_reply_to, self.cut_after = None, 0
                if is_reply and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        target.write(data[: len(data) // 2])
                        self.cut_after = None
                        break
                target.write(data)
                await target.drain()
        if not swallowing:
            for writer in pair:
                with contextlib.suppress(OSError):
                    await writer.drain() if not writer.transport.is_closing() else None
                writer.transport.abort()
                self._transports.discard(writer)
