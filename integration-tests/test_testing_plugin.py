"""The ``asgi`` fixture of asgiref-testing: installed with the extra, and next to other plugins."""

from collections.abc import Callable
from pathlib import Path

import pytest
from environments import Environment

SITE = """
import asyncio
import pytest
from asgiref.testing import ApplicationCommunicator, HttpExchange, Lifespan

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

async def failing(scope, receive, send):
    raise LookupError("unseen")

async def visit(asgi):
    log.clear()
    await asgi(Lifespan(site))
    exchange = await asgi(HttpExchange(site))
    assert (await exchange.response()).status == 204
    log.append("visited")

async def fail(asgi):
    communicator = await asgi(ApplicationCommunicator(failing, {}))
    await asyncio.wait({communicator.future})

def has_ended():
    return log == ["startup", "visited", "shutdown"]
"""

PYTEST_ASYNCIO = """
@pytest.mark.asyncio
async def test_visit(asgi):
    await visit(asgi)

def test_afterwards():
    assert has_ended()
"""

SESSION_LOOP = """
import pytest_asyncio

loops = set()

@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def lifespan():
    async with Lifespan(site) as running:  # one server for all tests
        yield running

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("number", range(3))
async def test_visit(asgi, lifespan, number):
    loops.add(asyncio.get_running_loop())
    exchange = await asgi(HttpExchange(site, state=lifespan.state))
    assert (await exchange.response()).status == 204

@pytest.mark.asyncio(loop_scope="session")
async def test_own_lifespan(asgi):
    loops.add(asyncio.get_running_loop())
    await visit(asgi)

@pytest.mark.asyncio(loop_scope="session")
async def test_afterwards(asgi):
    loops.add(asyncio.get_running_loop())
    assert has_ended()
    assert len(loops) == 1

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.xfail(raises=LookupError, strict=True)
async def test_failure(asgi):
    await fail(asgi)
"""

ANYIO = """
@pytest.fixture(params=["asyncio", "asyncio+uvloop"])
def anyio_backend(request):
    name, _, uvloop = request.param.partition("+")
    return name, {"use_uvloop": bool(uvloop)}

@pytest.mark.anyio
async def test_visit(asgi):
    await visit(asgi)

def test_afterwards():
    assert has_ended()

@pytest.fixture
async def opened(asgi):
    await visit(asgi)

@pytest.mark.anyio
async def test_with_a_fixture_of_the_same_loop(opened, asgi):
    assert log == ["startup", "visited"]

def test_after_the_fixture():
    assert has_ended()

@pytest.mark.anyio
@pytest.mark.xfail(raises=LookupError, strict=True)
async def test_failure(asgi):
    await fail(asgi)
"""

PORTALS = """
from anyio.from_thread import start_blocking_portal

OPTIONS = [{"use_uvloop": False}, {"use_uvloop": True}]

@pytest.fixture(params=OPTIONS, ids=str)
def portal(request):
    with start_blocking_portal("asyncio", request.param) as running:
        yield running

def test_visit(asgi, portal):
    portal.call(visit, asgi)

def test_afterwards():
    assert has_ended()

@pytest.mark.xfail(raises=LookupError, strict=True)
def test_failure(asgi, portal):
    portal.call(fail, asgi)

def test_a_portal_that_the_test_closes(asgi):
    with start_blocking_portal() as portal:
        portal.call(visit, asgi)

@pytest.mark.xfail(raises=LookupError, strict=True)
def test_a_failure_in_a_portal_that_the_test_closes(asgi):
    with start_blocking_portal() as portal:
        portal.call(fail, asgi)

def test_two_portals_at_once(asgi, portal):
    with start_blocking_portal() as other:
        other.call(visit, asgi)
        portal.call(visit, asgi)

def test_close_in_a_portal(asgi):
    with start_blocking_portal() as portal:
        portal.call(visit, asgi)
        portal.call(asgi.aclose)
        assert has_ended()
"""

STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

async def page(request):
    return PlainTextResponse("hello")

application = Starlette(routes=[Route("/", page)])

@pytest.fixture(params=[{}, {"use_uvloop": True}], ids=str)
def client(request):
    with TestClient(application, backend_options=request.param) as running:
        yield running

def test_visit(asgi, client):
    assert client.get("/").text == "hello"
    client.portal.call(visit, asgi)
    assert client.get("/").text == "hello"

def test_afterwards():
    assert has_ended()

@pytest.mark.xfail(raises=LookupError, strict=True)
def test_failure(asgi, client):
    client.portal.call(fail, asgi)

async def read_page(asgi):
    await asgi(Lifespan(application))
    exchange = await asgi(HttpExchange(application))
    return (await exchange.response()).body

def test_the_helpers_serve_the_same_application(asgi, client):
    assert client.portal.call(read_page, asgi) == b"hello"
"""


def test_without_the_extra_the_helpers_need_nothing_from_pytest(
    fresh_environment: Environment,
) -> None:
    fresh_environment.install_ours("asgiref-testing")
    seen = fresh_environment.evaluate(
        "import asgiref.testing, importlib.util, json\n"
        "print(json.dumps([bool(importlib.util.find_spec('pytest')), asgiref.testing.__all__]))"
    )
    assert seen[0] is False
    assert "HttpExchange" in seen[1]


@pytest.fixture(scope="module")
def environment(make_environment: Callable[[str], Environment]) -> Environment:
    """asgiref-testing with its extra, and the plugins that it is used with."""
    environment = make_environment("plugins")
    environment.install_ours("asgiref-testing")
    # The name is ours and must not be looked up in an index; the extra's requirement may be.
    asked = environment.evaluate(
        "import importlib.metadata, json\n"
        "print(json.dumps(importlib.metadata.requires('asgiref-testing')))"
    )
    [extra] = [each.partition(";")[0] for each in asked if each.endswith('extra == "pytest"')]
    plugins = ("pytest-asyncio", "pytest-xdist", "anyio", "starlette", "httpx2", "uvloop", "gevent")
    environment.pip("install", extra, *plugins)
    return environment


@pytest.mark.parametrize(
    ("module", "passed", "xfailed"),
    [
        pytest.param(PYTEST_ASYNCIO, 2, 0, id="pytest-asyncio"),
        pytest.param(SESSION_LOOP, 5, 1, id="session loop of pytest-asyncio"),
        pytest.param(ANYIO, 6, 2, id="anyio"),
        pytest.param(PORTALS, 7, 3, id="blocking portals of anyio"),
        pytest.param(STARLETTE, 5, 2, id="test client of Starlette"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "pytest-xdist"])
def test_the_fixture_works_with(
    environment: Environment,
    tmp_path: Path,
    module: str,
    passed: int,
    xfailed: int,
    workers: int,
) -> None:
    (tmp_path / "test_one.py").write_text(SITE + module, "utf-8")
    (tmp_path / "test_other.py").write_text(SITE + module, "utf-8")
    run = environment.attempt(
        *("-I", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
        *("-n", str(workers), "--dist", "loadfile"),
        cwd=tmp_path,
    )

    assert run.returncode == 0, run.stdout
    counts = f"{2 * passed} passed" + (f", {2 * xfailed} xfailed" if xfailed else "")
    assert f"{counts} in" in run.stdout


GEVENT = """
from asgiref.sync import async_to_sync, sync_to_async

async def nested():
    return await sync_to_async(lambda: 5)()

def test_nested():
    assert async_to_sync(nested)() == 5

def test_the_fixture(asgi):
    async def read():
        exchange = await asgi(HttpExchange(site))
        status = (await exchange.response()).status
        await asgi.aclose()
        return status
    assert async_to_sync(read)() == 204
"""


@pytest.mark.parametrize("options", [[], ["-p", "no:asgiref-testing", "-k", "nested"]])
def test_a_project_whose_conftest_patches_threads_with_gevent_can_call_the_bridge(
    environment: Environment, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "conftest.py").write_text("from gevent import monkey; monkey.patch_all()", "utf-8")
    (tmp_path / "test_one.py").write_text(SITE + GEVENT, "utf-8")
    limit = ("-o", "faulthandler_timeout=20", "-o", "faulthandler_exit_on_timeout=true")
    run = environment.attempt(
        *("-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", *limit, *options), cwd=tmp_path
    )

    assert run.returncode == 0, run.stdout
