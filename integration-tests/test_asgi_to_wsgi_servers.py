"""An ASGI application in AsgiToWsgi serves good and bad clients under real WSGI servers."""

import hashlib
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from asgi_to_wsgi_servers import INTERPRETERS, SERVERS, WsgiServer, reason_to_skip

BLOCK = bytes(range(256)) * 256
# Servers with many concurrent requests in one process.
CONCURRENT = ("gunicorn-gthread", "gunicorn-gevent", "waitress", "uwsgi", *INTERPRETERS)
concurrent_servers = pytest.mark.parametrize("server", CONCURRENT, indirect=True)
# Servers that let the application detect a client that has left before it sends again.
watchful_servers = pytest.mark.parametrize(
    "server",
    ["gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "waitress", "uwsgi"],
    indirect=True,
)
# uWSGI and the development servers do not decode chunked bodies for their application.
decoding_servers = pytest.mark.parametrize(
    "server",
    [name for name in SERVERS if not name.startswith("uwsgi")],
    indirect=True,
)


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WsgiServer]:
    if reason := reason_to_skip(request.param):
        pytest.skip(reason)
    server = WsgiServer(request.param, tmp_path_factory.mktemp(request.param))
    try:
        yield server
    finally:
        log = server.stop()
    assert "the lifespan has ended" in log, log
    assert "never retrieved" not in log, log
    assert "never awaited" not in log, log


def test_a_page_and_a_missing_page(server: WsgiServer) -> None:
    assert server.get("/").text == "Hello"
    assert server.get("/nowhere").status_code == 404
    head = httpx.head(server.url + "/", timeout=30)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")


def test_a_file(server: WsgiServer) -> None:
    assert server.get("/file").content == BLOCK * 4


def test_the_lifespan_has_started_in_the_process_that_serves(server: WsgiServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.get("/process"), range(50)))
    assert {answer.status_code for answer in answers} == {200}


def test_an_error_before_the_headers_is_a_500(server: WsgiServer) -> None:
    assert server.get("/failing/first").status_code == 500
    assert server.get("/").text == "Hello"


def test_the_client_sees_that_a_response_that_fails_midway_is_broken(server: WsgiServer) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        server.get("/failing/later")
    assert server.get("/").text == "Hello"


def test_an_upload(server: WsgiServer) -> None:
    body = BLOCK * 50
    answer = httpx.post(server.url + "/digest", content=body, timeout=30)
    assert answer.text == hashlib.sha256(body).hexdigest()


@decoding_servers
def test_an_upload_without_a_length(server: WsgiServer) -> None:
    answer = httpx.post(server.url + "/digest", content=(BLOCK for _ in range(50)), timeout=30)
    assert answer.text == hashlib.sha256(BLOCK * 50).hexdigest()


@pytest.mark.parametrize("server", ["uwsgi"], indirect=True)
def test_an_upload_that_the_server_cannot_delimit_is_refused(server: WsgiServer) -> None:
    answer = httpx.post(server.url + "/digest", content=(BLOCK for _ in range(2)), timeout=30)
    assert answer.status_code == 411


@concurrent_servers
def test_a_client_that_leaves_stops_an_endless_response(server: WsgiServer) -> None:
    with server.connect() as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        while received < 1_000_000:
            received += len(client.recv(65536))
    assert server.get("/wait/1/endless%20closed").text == "yes"


@watchful_servers
def test_a_client_that_leaves_stops_an_idle_response(server: WsgiServer) -> None:
    with server.connect() as client:
        client.sendall(b"GET /idle HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536)
    assert server.get("/wait/1/idle%20closed").text == "yes"


@concurrent_servers
def test_a_client_that_leaves_mid_upload_is_a_disconnect(server: WsgiServer) -> None:
    if server.name == "waitress":
        pytest.skip("waitress receives a whole request before it calls the application")
    with server.connect() as client:
        client.sendall(
            b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 400_000
        )
    assert server.get("/wait/1/left%20during%20upload").text == "yes"


@concurrent_servers
def test_server_sent_events_reach_50_clients(server: WsgiServer) -> None:
    with ExitStack() as stack:
        streams = []
        for _ in range(50):
            client = stack.enter_context(httpx.Client(base_url=server.url, timeout=30))
            stream = stack.enter_context(client.stream("GET", "/events/3"))
            lines = stream.iter_lines()
            assert next(lines) == ": welcome"
            streams.append(lines)
        for text in ("one", "two", "three"):
            assert server.get(f"/publish/{text}").text == "published"
            expected = f"data: event {text}"
            for lines in streams:
                assert next(line for line in lines if line.startswith("data:")) == expected
        for lines in streams:
            assert [line for line in lines if line] == []


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="measures with Linux's /proc"
)
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize(
    "server", ["gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "uwsgi"], indirect=True
)
def test_256_mb_take_less_than_8_mb_of_memory(server: WsgiServer, direction: str) -> None:
    def transfer(blocks: int) -> None:
        if direction == "up":
            headers = {"content-length": str(blocks * len(BLOCK))}
            body = (BLOCK for _ in range(blocks))
            answer = httpx.post(server.url + "/digest", content=body, headers=headers, timeout=60)
            expected = hashlib.sha256()
            for _ in range(blocks):
                expected.update(BLOCK)
            assert answer.text == expected.hexdigest()
        else:
            with httpx.stream("GET", f"{server.url}/download/{blocks}", timeout=60) as stream:
                assert sum(len(piece) for piece in stream.iter_raw(65536)) == blocks * len(BLOCK)

    transfer(512)
    before = int(server.get("/memory/reset").text)
    transfer(4096)
    assert int(server.get("/memory").text) - before < 8192


@pytest.mark.parametrize(
    "server", ["gunicorn-gthread", "gunicorn-gevent", "waitress"], indirect=True
)
def test_10_000_keep_alive_requests(server: WsgiServer) -> None:
    def many(_: int) -> set[tuple[int, bytes]]:
        seen = set()
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client:
            for _ in range(2500):
                client.request("GET", "/")
                answer = client.getresponse()
                seen.add((answer.status, answer.read()))
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert set.union(*pool.map(many, range(4))) == {(200, b"Hello")}
