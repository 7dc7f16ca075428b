import pytest
from scout_apm.api import Config
from scout_apm.async_.starlette import ScoutMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient


async def answer_async(request):
    return PlainTextResponse("answer")


def answer_sync(request):
    return PlainTextResponse("answer")


@pytest.mark.parametrize("endpoint", [answer_async, answer_sync])
def test_a_monitored_endpoint_answers(endpoint):
    Config.set(monitor=True, core_agent_launch=False)
    app = Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(ScoutMiddleware)])
    with TestClient(app) as client:
        assert client.get("/").text == "answer"
