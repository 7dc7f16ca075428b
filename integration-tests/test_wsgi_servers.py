"""A Flask application in WsgiToAsgi serves good and bad clients under real servers."""

import hashlib
import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from wsgi_servers import COMMANDS, ERRORS, PROJECTS, Server

BLOCK = bytes(range(256)) * 256


# Daphne receives a complete request before it calls the application, sends without waiting for the
# client, and does not close a connection that failed midway.
streaming_servers = pytest.mark.parametrize(
    "server", ["uvicorn", "uvloop", "hypercorn"], indirect=True
)
# The kB of a request that a server buffers before the application reads them: hypercorn has a queue
# of ten events of 64 kB.
OWN_QUEUES = {"hypercorn": 640}
# The other servers answer "Expect" themselves.
uvicorn_only = pytest.mark.parametrize("server", ["uvicorn", "uvloop"], indirect=True)


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    log = server.stop()
    errors = sum(log.count(error) for error in ERRORS)
    assert errors == log.count("LookupError: on purpose"), log


def test_a_form_and_a_session(server: Server) -> None:
    with httpx.Client(base_url=server.url, follow_redirects=True) as client:
        answer = client.post("/form", data={"name": "Jo é"})
        assert (answer.status_code, answer.text) == (200, "Hello Jo é")


def test_a_missing_page(server: Server) -> None:
    assert server.get("/nowhere").status_code == 404


def test_head_has_headers_and_no_body(server: Server) -> None:
    answer = httpx.head(server.url + "/")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "5", b"")


def test_a_file_through_the_file_wrapper(server: Server) -> None:
    assert server.get("/file").content == BLOCK * 4


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="measures with Linux's /proc"
)
@pytest.mark.parametrize("direction", ["up", "down"])
@streaming_servers
def test_256_mb_take_less_than_8_mb_of_memory(server: Server, direction: str) -> None:
    def transfer(blocks: int) -> None:
        if direction == "up":
            body = (BLOCK for _ in range(blocks))
            answer = httpx.post(server.url + "/digest", content=body, timeout=60)
            expected = hashlib.sha256()
            for _ in range(blocks):
                expected.update(BLOCK)
            assert answer.text == expected.hexdigest()
        else:
            with httpx.stream("GET", f"{server.url}/download/{blocks}", timeout=60) as stream:
                assert sum(len(piece) for piece in stream.iter_raw(65536)) == blocks * len(BLOCK)

    transfer(512)  # the server's buffers and the allocator's arenas grow to their final size
    before = server.get("/memory").json()
    transfer(4096)
    after = server.get("/memory").json()
    # An upload without a length is spooled, and the start of the spool is in memory.
    assert after["peak"] - before["now"] < 8192 + OWN_QUEUES.get(server.name, 0)


def test_a_client_that_leaves_stops_an_endless_response(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        while received < 1_000_000:
            received += len(client.recv(65536))
    assert server.get("/await/closed").text == "yes"


@streaming_servers
def test_a_client_that_leaves_mid_upload_causes_an_oserror(server: Server) -> None:
    with server.connect() as client:
        client.sendall(
            b"POST /upload-that-breaks-off HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            + b"x" * 400_000
        )
    assert server.get("/await/oserror").text == "yes"


def test_clients_that_stop_reading_do_not_block_others(server: Server) -> None:
    clients = []
    for _ in range(20):
        client = server.connect()
        client.sendall(b"GET /download/1000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
        clients.append(client)
    try:
        assert [server.get("/").text for _ in range(20)] == ["Hello"] * 20
    finally:
        for client in clients:
            client.close()


@streaming_servers
def test_10_000_keep_alive_requests_as_fast_as_the_client_can(server: Server) -> None:
    def many(_: int) -> set[tuple[int, bytes]]:
        seen = set()
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client:
            for _ in range(2500):
                client.request("GET", "/variable")
                answer = client.getresponse()
                seen.add((answer.status, answer.read()))
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert set.union(*pool.map(many, range(4))) == {(200, b"nothing")}


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    paths = ["/", "/variable", "/loop", "/scope-variable"] * 50
    requests = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
    texts = {
        "/": b"Hello",
        "/variable": b"nothing",
        "/loop": b"the server's",
        "/scope-variable": b"middleware saw /scope-variable",
    }
    with server.connect() as client:
        client.sendall(requests)
        with client.makefile("rb") as stream:
            for path in paths:
                assert read_answer(stream) == (200, texts[path])


def read_answer(stream: "socket.SocketIO") -> tuple[int, bytes]:
    status = int(stream.readline().split()[1])
    headers = http.client.parse_headers(stream)
    return status, stream.read(int(headers["content-length"] or 0))


@uvicorn_only
def test_a_client_that_expects_100_continue_gets_it_when_the_body_is_read(
    server: Server,
) -> None:
    with server.connect() as client, client.makefile("rb") as stream:
        client.sendall(
            b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert list(iter(stream.readline, b"\r\n")) == []
        client.sendall(b"hello")
        expected = hashlib.sha256(b"hello").hexdigest().encode()
        assert read_answer(stream) == (200, expected)


@uvicorn_only
def test_an_expected_100_continue_can_be_refused(server: Server) -> None:
    with server.connect() as client, client.makefile("rb") as stream:
        client.sendall(
            b"PUT /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert read_answer(stream) == (417, b"too large")


@streaming_servers
def test_the_client_sees_that_a_response_that_fails_midway_is_broken(server: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.get("/failing")
    assert server.get("/").text == "Hello"


@pytest.fixture(params=COMMANDS)
def django_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param, "django_wsgi_site:application")
    yield server
    log = server.stop()
    assert not any(error in log for error in ERRORS), log


def test_djangos_wsgi_handler(django_server: Server) -> None:
    server = django_server
    assert server.get("/?q=1").text == "GET / 1"
    assert server.get("/%C3%A9/").text == "GET /é/ "
    assert httpx.head(server.url + "/").headers["content-length"] == "7"
    assert httpx.post(server.url + "/echo", content=BLOCK * 3).content == BLOCK * 3
    assert server.get("/numbers").text == "".join(f"{number}\n" for number in range(1000))
    source = (PROJECTS / "django_wsgi_site.py").read_text(encoding="utf-8")
    assert server.get("/source").text == source
    assert server.get("/nowhere").status_code == 404
