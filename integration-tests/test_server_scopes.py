"""What servers really give an application, against the types that asgiref.typing has for it."""

import json
from pathlib import Path
from typing import Any

import pytest
from environments import Environment

PROJECT = Path(__file__).parent / "projects" / "recorded_servers.py"
SERVERS = ("uvicorn", "hypercorn", "daphne")

CONNECTIONS = {
    "HTTPScope",
    "HTTPRequestEvent",
    "HTTPDisconnectEvent",
    "WebSocketScope",
    "WebSocketConnectEvent",
    "WebSocketReceiveEvent",
    "WebSocketDisconnectEvent",
}
LIFESPAN = {"LifespanScope", "LifespanStartupEvent", "LifespanShutdownEvent"}
GIVEN = {
    "uvicorn": CONNECTIONS | LIFESPAN,
    "hypercorn": CONNECTIONS | LIFESPAN,
    "daphne": CONNECTIONS,  # it has no lifespan
}

# Where a server gives something else than the types say, and why the types stay as they are.
DEVIATIONS: dict[str, set[str]] = {
    "uvicorn": set(),
    "hypercorn": set(),
    "daphne": {
        # The specification has any two-item iterable; every other server has a tuple, asgiref's
        # types have always had one, and no type of a list tells what its second item is.
        "HTTPScope.client: list",
        "HTTPScope.server: list",
        "WebSocketScope.client: list",
        "WebSocketScope.server: list",
        # Against the specification, which has 1005 for a socket that was closed without a code.
        "WebSocketDisconnectEvent.code: NoneType",
    },
}


@pytest.fixture(scope="module")
def recordings(make_environment: Any) -> Any:
    """Every server is run, talked to and recorded once."""
    environment: Environment = make_environment("servers")
    environment.install_ours("asgiref")
    environment.pip(
        *("install", "uvicorn", "hypercorn", "daphne"),
        *("websockets", "httpx[http2]", "h2", "trustme", "typeguard"),
    )
    environment.pip("check")
    return json.loads(environment.run("-I", PROJECT))


@pytest.mark.parametrize("server", SERVERS)
def test_every_scope_and_event_is_as_its_type_says(server: str, recordings: Any) -> None:
    assert set(recordings[server]["wrong"]) == DEVIATIONS[server]


@pytest.mark.parametrize("server", SERVERS)
def test_every_type_that_the_server_can_give_was_recorded(server: str, recordings: Any) -> None:
    assert set(recordings[server]["given"]) == GIVEN[server]


def test_both_versions_of_http_were_recorded(recordings: Any) -> None:
    seen = {server: recordings[server]["http"] for server in SERVERS}
    assert seen == {"uvicorn": ["1.1"], "hypercorn": ["1.1", "2"], "daphne": ["1.1", "2"]}
