"""WsgiToAsgi passes a checker of the ASGI protocol."""

from typing import Any

import pytest

from asgiref.testing import HttpExchange, Lifespan, WebsocketConversation, WebsocketDenied
from asgiref.wsgi import WsgiToAsgi

asgion = pytest.importorskip("asgion", reason="the checker asgion needs Python 3.12")

pytestmark = pytest.mark.asyncio


def site(environ: dict[str, Any], start_response: Any) -> Any:
    path, status = environ["PATH_INFO"], "200 OK"
    if path in ("/204", "/304"):
        status = path[1:]
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    if path == "/echo":
        return [environ["wsgi.input"].read()]
    if path == "/stream":
        return (b"chunk" for _ in range(10))
    return [b"" if path in ("/204", "/304") else b"Hello"]


@pytest.fixture
def checked() -> Any:
    """The adapter under the checker, which fails with the violated rule."""
    violations: list[Any] = []
    config = asgion.BUILTIN_PROFILES["recommended"]  # without mere remarks
    yield asgion.inspect(WsgiToAsgi(site), config=config, on_violation=violations.append)
    assert [(violation.rule_id, violation.message) for violation in violations] == []


@pytest.mark.parametrize("path", ["/", "/stream", "/204", "/304"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_responses_violate_no_rule(checked: Any, method: str, path: str) -> None:
    async with HttpExchange(checked, method, path) as exchange:
        response = await exchange.response()
        assert response.status == int(path[1:]) if path[1:].isdigit() else 200


async def test_a_request_with_a_body_violates_no_rule(checked: Any) -> None:
    async with HttpExchange(checked, "POST", "/echo", body=b"x" * 1000) as exchange:
        assert (await exchange.response()).body == b"x" * 1000


async def test_the_lifespan_violates_no_rule(checked: Any) -> None:
    async with Lifespan(checked) as lifespan:
        assert lifespan.state == {}


async def test_a_refused_websocket_violates_no_rule(checked: Any) -> None:
    with pytest.raises(WebsocketDenied):
        async with WebsocketConversation(checked, "/"):
            pass
