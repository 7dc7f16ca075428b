"""Check the scopes and events of uvicorn, hypercorn and Daphne against asgiref.typing.

Each server runs the recording application. Real clients connect over TCP, a Unix socket and TLS,
with HTTP/1.1 and, if the server supports it, HTTP/2. For each server, print the types that it sent
(names from asgiref.typing) and their deviations as JSON.
"""

import json
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args, get_type_hints

import httpx
import trustme
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect, unix_connect

import asgiref.typing as t

HERE = Path(__file__).parent
APPLICATION = "recorder:application"
CLOSE_FRAME_WITHOUT_CODE = b"\x88\x80\0\0\0\0"

COMMANDS = {
    "uvicorn": {
        "tcp": ["--port", "0"],
        "unix": ["--uds", "{unix}"],
        "tls": ["--port", "0", "--ssl-keyfile", "{key}", "--ssl-certfile", "{certificate}"],
    },
    "hypercorn": {
        "tcp": ["--bind", "127.0.0.1:0"],
        "unix": ["--bind", "unix:{unix}"],
        "tls": ["--bind", "127.0.0.1:0", "--keyfile", "{key}", "--certfile", "{certificate}"],
    },
    "daphne": {
        "tcp": ["-p", "0"],
        "unix": ["-u", "{unix}"],
        "tls": ["-e", "ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"],
    },
}


@contextmanager
def serving(server, way, places):
    """Run the server, and yield the port in its log, or 0 if it listens on a Unix socket."""
    options = [option.format(**places) for option in COMMANDS[server][way]]
    process = subprocess.Popen(
        [sys.executable, "-m", server, *options, APPLICATION],
        env={**os.environ, "RECORDING": places["recording"], "PYTHONPATH": str(HERE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield listening_port(process.stderr)
    finally:
        process.terminate()
        with process.stderr as rest:
            rest.read()
        process.wait()


def listening_port(log):
    told = []
    for line in log:
        told.append(line)
        if re.search(r"endpoint unix:|unix socket|unix:/", line):
            return 0
        if found := re.search(r"(?:[Rr]unning|Listening) on .*[\d.]+:(\d+)", line):
            return int(found[1])
    sys.exit("the server did not start:\n" + "".join(told))


def speak_http(client, base):
    """Send requests with and without a body, and one whose client leaves during the response."""
    assert client.get(f"{base}/caf%C3%A9?q=1", headers={"X-Twice": "1"}).text == "hello"
    assert client.post(f"{base}/", content=iter([b"one", b"two"])).text == "hello"
    with client.stream("GET", f"{base}/left") as answer:
        next(answer.iter_raw())


def speak_websocket(open_socket):
    """Send text and bytes, and end the connection in each possible way."""
    with open_socket("/room?a=1", subprotocols=["a", "b"]) as client:
        for message in ("text", b"binary"):
            client.send(message)
            assert client.recv() == message
        client.close(1001, "going away")
    with open_socket("/") as client:
        client.socket.sendall(CLOSE_FRAME_WITHOUT_CODE)
        with suppress(ConnectionClosed):
            client.recv()
    with open_socket("/") as client:
        client.send("close")
        with suppress(ConnectionClosed):
            client.recv()
    with open_socket("/") as client:
        client.socket.shutdown(socket.SHUT_RDWR)
    with suppress(InvalidHandshake), open_socket("/denied"):
        raise AssertionError("denied")


def trusting(places):
    """Return a new context for each client, because some clients set the protocols they offer."""
    return ssl.create_default_context(cafile=places["authority"])


def converse(server, way, places):
    with serving(server, way, places) as port:
        if way == "tcp":
            with httpx.Client() as client:
                speak_http(client, f"http://127.0.0.1:{port}")
            speak_websocket(lambda path, **more: connect(f"ws://127.0.0.1:{port}{path}", **more))
        elif way == "unix":
            with httpx.Client(
                transport=httpx.HTTPTransport(uds=places["unix"], retries=8)
            ) as client:
                speak_http(client, "http://localhost")
            speak_websocket(
                lambda path, **more: unix_connect(places["unix"], f"ws://localhost{path}", **more)
            )
        else:
            # No websockets: on a busy machine hypercorn sometimes drops one over TLS.
            for http2 in (False, True):
                with httpx.Client(verify=trusting(places), http2=http2) as client:
                    speak_http(client, f"https://127.0.0.1:{port}")


def recorded(path):
    with Path(path).open("rb") as recording:
        while True:
            try:
                yield pickle.load(recording)
            except EOFError:
                return


def by_type(union):
    return {get_args(get_type_hints(each)["type"])[0]: each for each in get_args(union)}


TYPES = {"scope": by_type(t.Scope), "event": by_type(t.ASGIReceiveEvent)}


def mistakes(value, expected):
    """Return the keys whose values differ from the type, with the types of those values."""
    hints = get_type_hints(expected)
    for key in expected.__required_keys__ - value.keys():
        yield key, "missing"
    for key, each in value.items():
        try:
            if key == "headers":  # typeguard does not check the items of an Iterable
                check(list(each), list[tuple[bytes, bytes]])
            check(each, hints[key])
        except (KeyError, TypeCheckError):
            yield key, type(each).__name__
    if tls := (value.get("extensions") or {}).get("tls"):
        yield from mistakes(tls, t.TLSExtension)


def check(value, hint):
    check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)


def main():
    seen = {}
    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        places = {key: str(Path(folder, key)) for key in ("key", "certificate", "authority")}
        certificate.private_key_pem.write_to_path(places["key"])
        certificate.cert_chain_pems[0].write_to_path(places["certificate"])
        authority.cert_pem.write_to_path(places["authority"])
        for server, ways in COMMANDS.items():
            given, wrong, versions = set(), set(), set()
            places["unix"] = str(Path(folder, f"{server}.socket"))
            for way in ways:
                places["recording"] = str(Path(folder, f"{server}-{way}"))
                converse(server, way, places)
                for kind, value in recorded(places["recording"]):
                    expected = TYPES[kind][value["type"]]
                    given.add(expected.__name__)
                    for key, found in mistakes(value, expected):
                        wrong.add(f"{expected.__name__}.{key}: {found}")
                    versions.add(value.get("http_version"))
            seen[server] = {
                "given": sorted(given),
                "wrong": sorted(wrong),
                "http": sorted(versions - {None}),
            }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
