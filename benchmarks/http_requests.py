"""Make HTTP requests to ASGI and WSGI applications, as a server in the same process does.

`send` never yields to the event loop, like that of a server whose client keeps up; `receive`
returns at once until the body is complete. The functions return the size of the response's body.
"""

import asyncio
import io
from typing import Any
from wsgiref.util import setup_testing_defaults

HEADERS = {
    "host": "127.0.0.1:8000",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-encoding": "gzip, deflate, br",
    "connection": "keep-alive",
}
SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "scheme": "http",
    "query_string": b"",
    "root_path": "",
    "headers": [(name.encode(), value.encode()) for name, value in HEADERS.items()],
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 50000),
}
ENVIRON: dict[str, Any] = {
    "QUERY_STRING": "",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "wsgi.multithread": True,
    **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()},
}
setup_testing_defaults(ENVIRON)
BLOCK = b"x" * 65536


async def ask(application: Any, blocks: tuple[bytes, ...] = (b"",), path: str = "/") -> int:
    """Make a request whose body arrives in these blocks."""
    left, received, length = len(blocks), 0, sum(map(len, blocks))
    gone = asyncio.get_running_loop().create_future()

    async def receive() -> Any:
        nonlocal left
        if not left:
            await gone
        left -= 1
        return {"type": "http.request", "body": blocks[-1 - left], "more_body": left > 0}

    async def send(event: Any) -> None:
        nonlocal received
        received += len(event.get("body", b""))

    scope = SCOPE | {"method": "POST" if length else "GET", "path": path}
    if length:
        scope["headers"] = [*SCOPE["headers"], (b"content-length", str(length).encode())]
    await application(scope, receive, send)
    return received


def ask_wsgi(application: Any, body: bytes = b"", path: str = "/") -> int:
    method, length = ("POST", str(len(body))) if body else ("GET", "")
    own = {"REQUEST_METHOD": method, "CONTENT_LENGTH": length, "PATH_INFO": path}
    environ = ENVIRON | own | {"wsgi.input": io.BytesIO(body)}
    chunks = application(environ, lambda status, headers, exc_info=None: None)
    received = sum(map(len, chunks))
    if hasattr(chunks, "close"):
        chunks.close()
    return received
