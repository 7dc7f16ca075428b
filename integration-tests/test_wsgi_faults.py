"""Faults that users reported in WSGI adapters do not occur in WsgiToAsgi under real servers."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from wsgi_servers import COMMANDS, ERRORS, PROJECTS, Server, free_port

FRAMEWORKS = ["flask", "django", "falcon", "bottle"]


@pytest.fixture(scope="module", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        server = Server(request.param, "wsgi_frameworks:application")
    yield server
    log = server.stop()
    assert not any(error in log for error in ERRORS), log
    assert not list(folder.iterdir())  # no temporary file outlives its request


@pytest.mark.parametrize("size", [5, 400_000, 1_900_000])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_chunked_upload_arrives_complete(server: Server, framework: str, size: int) -> None:
    pieces = (b"\0" * min(16384, size - start) for start in range(0, size, 16384))
    answer = httpx.post(f"{server.url}/{framework}/", content=pieces, timeout=30)
    assert (answer.status_code, answer.text) == (200, str(size))


def test_a_chunked_upload_of_many_packets_arrives_complete(server: Server) -> None:
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(
            b"POST /django/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(50):
            client.sendall(b"4\r\nbody\r\n")
        client.sendall(b"0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"200" in answer.partition(b"\r\n\r\n")[2]


def test_a_body_that_is_too_large_gets_status_413(server: Server) -> None:
    with server.connect() as client:
        client.sendall(
            b"POST /flask/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000001\r\n\r\n"
        )
        if server.name == "daphne":  # receives the whole request first
            client.sendall(b"x" * 2_000_001)
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


def test_80_downloads_of_a_file_that_is_deleted_in_close_are_complete(server: Server) -> None:
    def download(_: int) -> tuple[int, int]:
        answer = httpx.get(f"{server.url}/report/", timeout=30)
        return answer.status_code, len(answer.content)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(download, range(80))) == [(200, 200_000)] * 80


def test_connection_headers_come_from_the_server(server: Server) -> None:
    with httpx.Client() as client:
        for _ in range(2):
            answer = client.get(f"{server.url}/relay/", timeout=30)
            assert (answer.status_code, answer.text) == (200, "relayed")
            assert "keep-alive" not in answer.headers


@pytest.mark.parametrize(("path", "happened"), [("silent", "closed"), ("ask", "gone")])
def test_a_client_that_leaves_stops_a_silent_application(
    server: Server, path: str, happened: str
) -> None:
    with server.connect() as client:
        client.sendall(f"GET /{path}/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert httpx.get(f"{server.url}/await/?{path}", timeout=30).text == "yes"
    assert httpx.get(f"{server.url}/await/?{happened}", timeout=30).text == "yes"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "daphne", "granian"])
def test_git_push_of_3_mb(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str, cwd: Path = tmp_path) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    served, clone = tmp_path / "served", tmp_path / "clone"
    git("init", "-q", "--bare", str(served))
    git("init", "-q", str(clone))
    with (clone / "large").open("wb") as file, Path("/dev/urandom").open("rb") as noise:
        file.write(noise.read(3_000_000))
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "large", cwd=clone)
    monkeypatch.setenv("GIT_REPOSITORY", str(served))
    server = Server(name, "wsgi_git:application")
    try:
        git("push", "-q", server.url + "/", "HEAD:refs/heads/main", cwd=clone)
    finally:
        log = server.stop()
    assert git("rev-parse", "main", cwd=served) == git("rev-parse", "HEAD", cwd=clone), log


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_uploads_arrive_if_threads_are_greenlets(library: str) -> None:
    pytest.importorskip(library)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "wsgi_green.py", library, str(port)],
        cwd=PROJECTS,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        log = []
        for line in process.stderr:
            log.append(line)
            if "running on" in line:
                break
        else:
            raise AssertionError("".join(log))
        url = f"http://127.0.0.1:{port}/"
        for headers in ({}, {"Content-Length": "1600000"}):
            body = (b"x" * 16_000 for _ in range(100))
            answer = httpx.post(url, content=body, headers=headers, timeout=30)
            assert answer.text == "1600000"
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda _: httpx.post(url, content=b"x" * 300_000), range(20))
            assert {answer.text for answer in answers} == {"300000"}
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(shutil.which("litmus") is None, reason="needs Debian's litmus")
@pytest.mark.parametrize("name", ["uvicorn", "granian"])
def test_litmus_finds_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("DAV_FOLDER", str(tmp_path / "served"))
    server = Server(name, "wsgi_dav:application")
    try:
        command = ["litmus", "-k", server.url + "/"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    finally:
        server.stop()
    results = re.findall(r"of (\d+) tests run: (\d+) passed", done.stdout)
    assert len(results) == 5, done.stdout  # basic, copymove, props, locks, http
    assert all(run == passed for run, passed in results), done.stdout
