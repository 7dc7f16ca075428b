"""The package exports asgiref's names, and ``type`` distinguishes the members of each union."""

import typing

import pytest

import asgiref.typing

ASGIREF_3_13 = [
    "ASGIVersions",
    "HTTPScope",
    "WebSocketScope",
    "LifespanScope",
    "WWWScope",
    "Scope",
    "HTTPRequestEvent",
    "HTTPResponseDebugEvent",
    "HTTPResponseStartEvent",
    "HTTPResponseBodyEvent",
    "HTTPResponseTrailersEvent",
    "HTTPResponsePathsendEvent",
    "HTTPServerPushEvent",
    "HTTPDisconnectEvent",
    "WebSocketConnectEvent",
    "WebSocketAcceptEvent",
    "WebSocketReceiveEvent",
    "WebSocketSendEvent",
    "WebSocketResponseStartEvent",
    "WebSocketResponseBodyEvent",
    "WebSocketDisconnectEvent",
    "WebSocketCloseEvent",
    "LifespanStartupEvent",
    "LifespanShutdownEvent",
    "LifespanStartupCompleteEvent",
    "LifespanStartupFailedEvent",
    "LifespanShutdownCompleteEvent",
    "LifespanShutdownFailedEvent",
    "ASGIReceiveEvent",
    "ASGISendEvent",
    "ASGIReceiveCallable",
    "ASGISendCallable",
    "ASGI2Protocol",
    "ASGI2Application",
    "ASGI3Application",
    "ASGIApplication",
]


@pytest.mark.parametrize("name", ASGIREF_3_13)
def test_a_name_from_asgiref_is_exported(name):
    assert name in asgiref.typing.__all__
    assert hasattr(asgiref.typing, name)


def test_every_exported_name_exists_and_is_documented():
    for name in asgiref.typing.__all__:
        value = getattr(asgiref.typing, name)
        if isinstance(value, type):
            assert value.__doc__, name


def type_of(event):
    (value,) = typing.get_args(typing.get_type_hints(event)["type"])
    return value


@pytest.mark.parametrize("union", ["Scope", "ASGIReceiveEvent", "ASGISendEvent"])
def test_the_type_key_distinguishes_the_members_of_a_union(union):
    members = typing.get_args(getattr(asgiref.typing, union))
    types = [type_of(member) for member in members]
    assert len(members) > 2
    assert len(set(types)) == len(types)


def test_every_event_is_a_member_of_a_union():
    members = {
        *typing.get_args(asgiref.typing.ASGIReceiveEvent),
        *typing.get_args(asgiref.typing.ASGISendEvent),
    }
    events = {getattr(asgiref.typing, n) for n in asgiref.typing.__all__ if n.endswith("Event")}
    assert events - {asgiref.typing.ASGIReceiveEvent, asgiref.typing.ASGISendEvent} == members
