"""The pytest fixture of asgiref-testing: there with the extra, and nothing of it without."""

from pathlib import Path

from environments import Environment

MODULE = """
import pytest
from asgiref.testing import HttpExchange, Lifespan

log = []

async def site(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            log.append(step)
            await send({"type": f"lifespan.{step}.complete"})
    else:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

async def visit(asgi):
    await asgi(Lifespan(site))
    exchange = await asgi(HttpExchange(site))
    assert (await exchange.response()).status == 204
    log.append("visited")

@pytest.mark.asyncio
async def test_with_pytest_asyncio(asgi):
    await visit(asgi)

def test_the_lifespan_has_ended_with_the_test():
    assert log == ["startup", "visited", "shutdown"]

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_with_anyio(asgi, anyio_backend):
    await visit(asgi)
"""


def test_without_the_extra_the_helpers_need_nothing_of_pytest(
    fresh_environment: Environment,
) -> None:
    fresh_environment.install_ours("asgiref-testing")
    seen = fresh_environment.evaluate(
        "import asgiref.testing, importlib.util, json\n"
        "print(json.dumps([bool(importlib.util.find_spec('pytest')), asgiref.testing.__all__]))"
    )
    assert seen[0] is False
    assert "HttpExchange" in seen[1]


def test_with_the_extra_pytest_finds_the_fixture(
    fresh_environment: Environment, tmp_path: Path
) -> None:
    fresh_environment.install_ours("asgiref-testing")
    # The name is ours, and must not be asked of an index; what the extra asks for may be.
    asked = fresh_environment.evaluate(
        "import importlib.metadata, json\n"
        "print(json.dumps(importlib.metadata.requires('asgiref-testing')))"
    )
    [extra] = [each.partition(";")[0] for each in asked if each.endswith('extra == "pytest"')]
    fresh_environment.pip("install", extra, "pytest-asyncio", "anyio")
    (tmp_path / "test_site.py").write_text(MODULE, "utf-8")

    run = fresh_environment.attempt(
        *("-I", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-o", "asyncio_default_fixture_loop_scope=function", "test_site.py"),
        cwd=tmp_path,
    )

    assert run.returncode == 0, run.stdout
    assert "3 passed in" in run.stdout
