"""Files that the server itself sends, if it can."""

import asyncio
import gzip
import io
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from wsgi_client import Exchange, http_scope

from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.asyncio

CONTENT = bytes(range(256)) * 40
PATHSEND, ZEROCOPYSEND = "http.response.pathsend", "http.response.zerocopysend"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


class Site:
    """Serves `file` through wsgi.file_wrapper."""

    def __init__(self, file, *headers, status="200 OK", written=b"", by_path=False):
        self.by_path = by_path
        self.file = file
        self.headers = list(headers)
        self.status = status
        self.written = written

    def __call__(self, environ, start_response):
        write = start_response(self.status, self.headers)
        if self.written:
            write(self.written)
        return environ["wsgi.file_wrapper"](self.file)

    async def events(self, *offers, method="GET"):
        """Return the events after the start as pairs of type and content."""
        scope = http_scope(method=method, extensions={offer: {} for offer in offers})
        exchange = Exchange(WsgiToAsgi(self, send_files_by_path=self.by_path), scope).start().feed()
        await exchange.end()
        assert self.file.closed
        start, *rest = exchange.sent()
        assert start["type"] == "http.response.start"
        return rest


def body(events):
    assert {event["type"] for event in events} <= {"http.response.body"}
    assert not events[-1].get("more_body")
    return b"".join(event.get("body", b"") for event in events)


async def test_a_whole_file_is_sent_by_its_path_if_the_user_allows_that(path):
    events = await Site(path.open("rb"), by_path=True).events(PATHSEND, ZEROCOPYSEND)
    assert events == [{"type": PATHSEND, "path": str(path)}]


async def test_the_path_is_absolute(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    file = io.FileIO(path.name)
    assert await Site(file, by_path=True).events(PATHSEND) == [
        {"type": PATHSEND, "path": str(path)}
    ]


@pytest.mark.parametrize(
    ("position", "headers", "count"),
    [(0, [], len(CONTENT)), (100, [], len(CONTENT) - 100), (10, [("Content-Length", "70")], 70)],
)
async def test_a_part_is_sent_by_descriptor_offset_and_count(path, position, headers, count):
    file = path.open("rb")
    file.read(position)
    events = await Site(file, *headers).events(ZEROCOPYSEND)
    assert events == [{"type": ZEROCOPYSEND, "file": file, "offset": position, "count": count}]


async def test_a_part_is_never_sent_by_its_path(path):
    file = path.open("rb")
    file.seek(1)
    assert body(await Site(file, by_path=True).events(PATHSEND)) == CONTENT[1:]


async def test_after_written_bytes_the_file_is_not_sent_by_its_path(path):
    events = await Site(path.open("rb"), written=b"before", by_path=True).events(PATHSEND)
    assert body(events) == b"before" + CONTENT


async def test_a_path_that_now_names_another_file_is_not_used(path):
    file = path.open("rb")
    os.replace(path, path.with_name("old"))
    path.write_bytes(b"another file")
    assert body(await Site(file, by_path=True).events(PATHSEND)) == CONTENT


@pytest.mark.parametrize("kind", ["memory", "compressed", "empty", "pipe"])
async def test_an_object_that_is_not_a_plain_file_is_read(kind, tmp_path):
    path = tmp_path / "file"
    expected = b"" if kind == "empty" else b"content"
    if kind == "memory":
        file = io.BytesIO(expected)
    elif kind == "compressed":
        path.write_bytes(gzip.compress(expected))
        file = gzip.GzipFile(path)
    elif kind == "empty":
        path.touch()
        file = path.open("rb")
    else:
        reading, writing = os.pipe()
        os.write(writing, expected)
        os.close(writing)
        file = os.fdopen(reading, "rb")
    assert body(await Site(file).events(PATHSEND, ZEROCOPYSEND)) == expected


class Redacted(io.FileIO):
    def read(self, size=-1):
        return super().read(size).replace(b"\x00", b"*")


class First(io.BufferedReader):
    def read(self, size=-1):
        return super().read(max(0, min(size, 100 - self.tell())))


def limited(path):
    """A plain file with a `read` attribute that limits reads."""
    file = io.FileIO(path)
    read = file.read
    file.read = lambda size: read(min(size, 100 - file.tell()))
    return file


def limited_below(path):
    file = path.open("rb")
    file.raw.readinto = lambda buffer: 0
    return file


def member(path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as opened:
        opened.add(path, "member")
    packed.seek(0)
    return tarfile.open(fileobj=packed).extractfile("member")


def zipped_member(path):
    packed = io.BytesIO()  # a file would stay open until the garbage collector finds the archive
    with zipfile.ZipFile(packed, "w") as opened:
        opened.write(path, "member")
    return zipfile.ZipFile(packed).open("member")


def buffered_gzip(path):
    packed = path.with_name("packed")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return io.BufferedReader(gzip.open(packed))


def read_in_full(file):
    return b"".join(iter(lambda: file.read(65536), b""))


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize(
    "open_file",
    [
        Redacted,
        lambda path: io.BufferedReader(Redacted(path)),
        lambda path: First(io.FileIO(path)),
        lambda path: io.BufferedRandom(io.FileIO(path, "r+")),
        buffered_gzip,
        limited,
        member,
        zipped_member,
    ],
)
async def test_a_file_object_that_may_change_the_bytes_is_read(path, open_file, by_path):
    with open_file(path) as file:
        expected = read_in_full(file)
    site = Site(open_file(path), by_path=by_path)
    assert body(await site.events(PATHSEND, ZEROCOPYSEND)) == expected


async def test_a_raw_file_that_is_patched_is_read(path):
    assert body(await Site(limited_below(path)).events(ZEROCOPYSEND)) == b""


async def test_an_object_without_fileno_is_read():
    class Source:
        closed = False
        pieces = (piece for piece in (b"one", b"two", b""))

        def read(self, size):
            return next(self.pieces)

        def close(self):
            self.closed = True

    assert body(await Site(Source()).events(PATHSEND, ZEROCOPYSEND)) == b"onetwo"


async def test_a_file_that_cannot_be_read_is_not_sent(path):
    site = Site(io.FileIO(path, "a"))
    with pytest.raises(io.UnsupportedOperation):
        await site.events(PATHSEND, ZEROCOPYSEND)


@pytest.fixture
def short_file():
    """A file that reports a size larger than its content."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.exists():
        pytest.skip(f"needs {path} of Linux's sysfs")
    return path.open("rb"), path.read_bytes()


async def test_a_file_that_reports_a_size_it_does_not_have_is_read(short_file):
    file, content = short_file
    assert body(await Site(file).events(ZEROCOPYSEND)) == content


@pytest.mark.parametrize("fate", ["deleted", "replaced", "truncated"])
async def test_a_file_that_does_not_outlive_close_arrives_whole(path, fate):
    """Like Granian, the server opens the file after `send` has returned."""

    def application(environ, start_response):
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"](path.open("rb"))
        close = wrapper.close

        def close_and_change():
            close()
            if fate == "replaced":
                other = path.with_name("other")
                other.write_bytes(b"other")
                os.replace(other, path)
            elif fate == "truncated":
                path.write_bytes(b"")
            else:
                path.unlink()

        wrapper.close = close_and_change
        return wrapper

    scope = http_scope(extensions={PATHSEND: {}, ZEROCOPYSEND: {}})
    received = []

    async def send(event):
        if event["type"] == ZEROCOPYSEND:
            received.append(os.pread(event["file"].fileno(), event["count"], event["offset"]))
        elif event["type"] == PATHSEND:
            opened_later.append(Path(event["path"]))
        else:
            received.append(event.get("body", b""))

    async def receive():
        return messages.pop() if messages else await asyncio.Future()

    messages, opened_later = [{"type": "http.request"}], []
    await WsgiToAsgi(application)(scope, receive, send)
    received.extend(path.read_bytes() for path in opened_later)
    assert b"".join(received) == CONTENT


async def test_a_file_shorter_than_its_content_length_is_an_error(path):
    site = Site(path.open("rb"), ("Content-Length", str(len(CONTENT) + 1)))
    with pytest.raises(RuntimeError, match="promised"):
        await site.events(PATHSEND, ZEROCOPYSEND)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified")])
async def test_a_response_without_a_body_sends_no_file(path, method, status):
    site = Site(path.open("rb"), status=status)
    events = await site.events(PATHSEND, ZEROCOPYSEND, method=method)
    assert events == [{"type": "http.response.body"}]


async def test_a_file_is_read_if_the_server_offers_no_extension_to_send_it(path):
    assert body(await Site(path.open("rb")).events()) == CONTENT


@pytest.mark.parametrize("end", ["sent", "cancelled"])
async def test_the_file_stays_open_until_it_is_sent(path, end):
    site, ended = Site(path.open("rb")), threading.Event()

    def application(environ, start_response):
        wrapper = site(environ, start_response)
        close = wrapper.close
        wrapper.close = lambda: (close(), ended.set())
        return wrapper

    exchange = Exchange(WsgiToAsgi(application), http_scope(extensions={ZEROCOPYSEND: {}}))
    exchange.sends_open.clear()
    exchange.start().feed()
    await exchange.send_begun.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not site.file.closed
    if end == "sent":
        exchange.sends_open.set()
        await exchange.end()
    else:
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.end()
    # The thread of a cancelled request is stopped, but not waited for.
    assert ended.wait(20)
    assert site.file.closed
