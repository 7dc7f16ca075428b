"""The scopes and events of real servers match the types in asgiref.typing."""

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

# Values from servers that differ from the types, and the reasons why the types stay as they are.
DEVIATIONS: dict[str, set[str]] = {
    "uvicorn": set(),
    "hypercorn": set(),
    "daphne": {
        # The specification allows any two-item iterable. Every other server uses a tuple, asgiref's
        # types have always had one, and the type of a list cannot describe its second item.
        "HTTPScope.client: list",
        "HTTPScope.server: list",
        "WebSocketScope.client: list",
        "WebSocketScope.server: list",
        # Violates the specification, which requires 1005 for a close without a code.
        "WebSocketDisconnectEvent.code: NoneType",
    },
}


@pytest.fixture(scope="module")
def recordings(make_environment: Any) -> Any:
    """Run every server once with real clients, and return its recorded scopes and events."""
    environment: Environment = make_environment("servers")
    environment.install_ours("asgiref")
    environment.pip(
        *("install", "uvicorn", "hypercorn", "daphne"),
        *("websockets", "httpx[http2]", "h2", "trustme", "typeguard"),
    )
    environment.pip("check")
    return json.loads(environment.run("-I", PROJECT))


@pytest.mark.parametrize("server", SERVERS)
def test_every_scope_and_event_matches_its_type(server: str, recordings: Any) -> None:
    assert set(recordings[server]["wrong"]) == DEVIATIONS[server]


@pytest.mark.parametrize("server", SERVERS)
def test_every_type_that_the_server_can_send_was_recorded(server: str, recordings: Any) -> None:
    assert set(recordings[server]["given"]) == GIVEN[server]


def test_both_versions_of_http_were_recorded(recordings: Any) -> None:
    seen = {server: recordings[server]["http"] for server in SERVERS}
    assert seen == {"uvicorn": ["1.1"], "hypercorn": ["1.1", "2"], "daphne": ["1.1", "2"]}
