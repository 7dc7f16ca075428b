"""The required and optional keys of each scope and event match the specification."""

import doctest
import typing

import pytest

import asgiref.typing as t

# name: (required besides "type", optional), from the ASGI specifications HTTP and WebSocket 2.5,
# lifespan 2.0, TLS 0.2 and the extensions page.
REQUEST_OPTIONAL = "scheme raw_path root_path client server state extensions"
SPECIFIED = {
    "HTTPScope": (
        "asgi http_version method path query_string headers",
        REQUEST_OPTIONAL,
    ),
    "WebSocketScope": (
        "asgi path headers",
        REQUEST_OPTIONAL + " http_version query_string subprotocols",
    ),
    "LifespanScope": ("asgi", "state"),
    "HTTPRequestEvent": ("", "body more_body"),
    "HTTPDisconnectEvent": ("", ""),
    "HTTPResponseStartEvent": ("status", "headers trailers"),
    "HTTPResponseBodyEvent": ("", "body more_body"),
    "HTTPResponseTrailersEvent": ("headers", "more_trailers"),
    "HTTPResponsePathsendEvent": ("path", ""),
    "HTTPServerPushEvent": ("path headers", ""),
    "HTTPResponseZeroCopySendEvent": ("file", "offset count more_body"),
    "HTTPResponseEarlyHintEvent": ("links", ""),
    "HTTPResponseDebugEvent": ("info", ""),
    "WebSocketConnectEvent": ("", ""),
    "WebSocketAcceptEvent": ("", "subprotocol headers"),
    "WebSocketReceiveEvent": ("", "bytes text"),
    "WebSocketSendEvent": ("", "bytes text"),
    "WebSocketResponseStartEvent": ("status", "headers"),
    "WebSocketResponseBodyEvent": ("", "body more_body"),
    "WebSocketDisconnectEvent": ("code", "reason"),
    "WebSocketCloseEvent": ("", "code reason"),
    "LifespanStartupEvent": ("", ""),
    "LifespanShutdownEvent": ("", ""),
    "LifespanStartupCompleteEvent": ("", ""),
    "LifespanStartupFailedEvent": ("", "message"),
    "LifespanShutdownCompleteEvent": ("", ""),
    "LifespanShutdownFailedEvent": ("", "message"),
}


@pytest.mark.parametrize("name", SPECIFIED)
def test_keys_match_the_specification(name):
    required, optional = map(str.split, SPECIFIED[name])
    event = getattr(t, name)
    assert event.__required_keys__ == {"type", *required}
    assert event.__optional_keys__ == set(optional)


def test_keys_of_the_dictionaries_inside_a_scope():
    assert t.ASGIVersions.__required_keys__ == {"version"}
    assert t.ASGIVersions.__optional_keys__ == {"spec_version"}
    assert t.TLSExtension.__required_keys__ == {"server_cert", "tls_version", "cipher_suite"}


def test_every_typed_dict_is_covered():
    public = {n for n in t.__all__ if typing.is_typeddict(getattr(t, n))}
    assert public == {*SPECIFIED, "ASGIVersions", "TLSExtension"}


@pytest.mark.parametrize("name", [name for name in SPECIFIED if name.endswith("Event")])
def test_the_example_in_the_documentation_is_a_complete_event(name):
    event = getattr(t, name)
    shown = doctest.DocTestParser().get_examples(event.__doc__)
    made = shown[-1].source
    if name == "HTTPResponseZeroCopySendEvent":  # needs an open file
        made = f"{name}(type='http.response.zerocopysend', file=None)"
    example = eval(made, vars(t))
    assert event.__required_keys__ <= example.keys() <= set(event.__annotations__)
    assert example["type"] in typing.get_args(typing.get_type_hints(event)["type"])


def test_a_key_named_bytes_still_holds_bytes():
    hints = typing.get_type_hints(t.WebSocketReceiveEvent)
    assert hints["bytes"] == bytes | None
