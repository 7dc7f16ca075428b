"""An HTTP/1.1 client that can also misbehave: leave, cut off a request, read slowly."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

import h11

HOST = "127.0.0.1"
PIECE = 65536


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class Connection:
    """One connection. It sends requests one after the other and reads each answer in full."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int | None = None) -> Connection:
        """Connect; with a small buffer (bytes), the server soon notices that we do not read."""
        plug = socket.socket()
        plug.setblocking(False)
        if receive_buffer is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(plug, (HOST, port))
        except BaseException:
            plug.close()
            raise
        limit = PIECE if receive_buffer is None else receive_buffer
        return cls(*await asyncio.open_connection(sock=plug, limit=limit))

    async def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> Answer:
        await self.begin(method, path, headers, len(body))
        await self.upload(body)
        self._send(h11.EndOfMessage())
        return await self.answer()

    async def begin(self, method: str, path: str, headers: dict[str, str], length: int) -> None:
        """Send a request's head, which announces ``length`` bytes of body."""
        fields = [("Host", HOST), ("Content-Length", str(length)), *headers.items()]
        self._send(h11.Request(method=method, target=path, headers=fields))
        await self._writer.drain()

    async def upload(self, body: bytes) -> None:
        for start in range(0, len(body), PIECE):
            self._send(h11.Data(data=body[start : start + PIECE]))
            await self._writer.drain()

    async def write_raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read_raw(self) -> bytes:
        return await self._reader.read(PIECE)

    async def answer(self, *, pause: float = 0) -> Answer:
        """Read the answer, and pause this many seconds before each piece.

        Raises:
            h11.RemoteProtocolError: if the server broke off, or sent bytes that are not HTTP.
        """
        status, body = 0, bytearray()
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                await asyncio.sleep(pause)
                self._protocol.receive_data(await self._reader.read(PIECE))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        return Answer(status, bytes(body))

    async def close(self) -> None:
        self._writer.close()
        await asyncio.wait({asyncio.ensure_future(self._writer.wait_closed())})

    def vanish(self, *, reset: bool) -> None:
        """Close at once and drop unsent bytes, with a FIN or, like a crashed host, a RST."""
        if reset:
            plug = self._writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def _send(self, event: h11.Event) -> None:
        data = self._protocol.send(event)
        if data:
            self._writer.write(data)
