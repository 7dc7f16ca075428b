"""A server that claims to be PostgreSQL 13, and can do nothing else."""

import asyncio
import struct


def _packet(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a client's first messages."""
    while True:
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        (code,) = struct.unpack("!i", (await reader.readexactly(size - 4))[:4])
        if code == 196608:  # protocol version 3.0; any other code asks for encryption
            break
        writer.write(b"N")
    writer.write(_packet(b"R", struct.pack("!i", 0)))
    for name, value in (
        ("server_version", "13.4"),
        ("in_hot_standby", "off"),
        ("default_transaction_read_only", "off"),
    ):
        writer.write(_packet(b"S", f"{name}\0{value}\0".encode()))
    writer.write(_packet(b"K", struct.pack("!ii", 1, 1)) + _packet(b"Z", b"I"))
    await reader.read()
    writer.close()


async def main() -> None:
    """Print the port, and serve until the process is killed."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
