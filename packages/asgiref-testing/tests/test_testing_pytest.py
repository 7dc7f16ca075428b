"""The ``asgi`` fixture in whole runs of pytest, and imports without pytest."""

import asyncio
import subprocess
import sys
import threading

import pytest

from asgiref.testing import ApplicationCommunicator, CommunicatorStack

# The start of every inner test module.
APPLICATIONS = """
import asyncio
import pytest
from asgiref.testing import (
    ApplicationCommunicator, HttpExchange, Lifespan, WebsocketConversation, WebsocketDenied,
)

log = []

async def site(scope, receive, send):
    if scope["type"] == "lifespan":
        scope["state"]["log"] = log
        for step in ("startup", "shutdown"):
            await receive()
            log.append(step)
            await send({"type": f"lifespan.{step}.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        scope["state"]["log"].append("closed")
    else:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        while (await receive())["type"] != "http.disconnect":
            pass
        scope["state"]["log"].append("answered")

async def failing(scope, receive, send):
    raise LookupError("unseen")

async def visit(asgi):
    lifespan = await asgi(Lifespan(site))
    socket = await asgi(WebsocketConversation(site, state=lifespan.state))
    exchange = await asgi(HttpExchange(site, state=lifespan.state))
    assert (await exchange.response()).status == 204
    assert log == ["startup"]
"""


@pytest.fixture
def outcomes_of(pytester):
    """Runs pytest on a module with these tests and counts the outcomes."""

    def run(source, *options):
        pytester.makepyfile(APPLICATIONS + source)
        strict = (
            "-p",
            "asyncio",
            "-W",
            "error",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
        )
        done = pytester.runpytest_subprocess(*strict, *options)
        return done, {k: v for k, v in done.parseoutcomes().items() if k != "seconds"}

    return run


def test_importing_the_helpers_imports_nothing_from_pytest():
    source = "import asgiref.testing, sys; print([m for m in sys.modules if 'pytest' in m])"
    done = subprocess.run(
        [sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_plugin_imports_no_bridge_before_a_projects_conftest(pytester):
    pytester.makeconftest(
        """
import sys
imported = [name for name in sys.modules if name.startswith("asgiref.")]
assert sorted(imported) == ["asgiref.testing", "asgiref.testing._pytest"], imported
"""
    )
    pytester.makepyfile("def test_one(request): assert 'asgi' not in request.fixturenames")
    assert pytester.runpytest_subprocess().parseoutcomes()["passed"] == 1


def test_the_helpers_are_listed_before_they_are_imported():
    source = (
        "import asgiref.testing as testing\n"
        "missing = set(testing.__all__) - set(dir(testing))\n"
        "print(missing, [name for name in testing.__all__ if not hasattr(testing, name)])\n"
        "from asgiref.testing import *\n"
        "print(HttpExchange is testing.HttpExchange, hasattr(testing, 'HttpExchanges'))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set() []\nTrue False\n"


def test_a_pytest_that_is_too_old_does_not_get_the_fixture():
    source = (
        "import pytest; pytest.version_tuple = (7, 4, 4)\n"
        "import asgiref.testing._pytest as plugin\n"
        "print(hasattr(plugin, 'asgi'), hasattr(plugin, 'pytest_pyfunc_call'))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_communicators_that_a_test_opened_are_closed_in_reverse_order_on_its_loop(
    outcomes_of, mode
):
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    _, outcomes = outcomes_of(
        f"""
{mark}
async def test_visit(asgi):
    await visit(asgi)

def test_afterwards():
    assert log == ["startup", "answered", "closed", "shutdown"]
""",
        f"--asyncio-mode={mode}",
    )
    assert outcomes == {"passed": 2}


def test_a_failure_that_a_test_did_not_see_fails_it(outcomes_of):
    done, outcomes = outcomes_of(
        """
@pytest.mark.asyncio
async def test_one(asgi):
    await asgi(ApplicationCommunicator(failing, {}))
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_several(asgi):
    for _ in range(2):
        await asgi(ApplicationCommunicator(failing, {}))
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_seen(asgi):
    communicator = await asgi(ApplicationCommunicator(failing, {}))
    with pytest.raises(LookupError):
        await communicator.wait()
"""
    )
    assert outcomes == {"passed": 1, "failed": 2}
    done.stdout.fnmatch_lines(["E *LookupError: unseen"])
    done.stdout.fnmatch_lines(["*ExceptionGroup: Several applications failed*(2 sub-exceptions)"])


def test_a_test_that_runs_its_own_loop_may_use_it_too(outcomes_of):
    done, outcomes = outcomes_of(
        """
def test_visit(asgi):
    asyncio.run(visit(asgi))

def test_failure(asgi):
    async def main():
        await asgi(ApplicationCommunicator(failing, {}))
        await asyncio.sleep(0)
    asyncio.run(main())
"""
    )
    assert outcomes == {"passed": 1, "failed": 1}
    done.stdout.fnmatch_lines(["E *LookupError: unseen"])


def test_a_plugin_that_closes_the_loop_with_the_test_leaves_time_for_shutdown(outcomes_of):
    """anyio's plugin does this."""
    done, outcomes = outcomes_of(
        """
import inspect

class Plugin:
    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        if inspect.iscoroutinefunction(pyfuncitem.obj):
            names = pyfuncitem._fixtureinfo.argnames
            asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
            return True

@pytest.fixture(autouse=True, scope="module")
def plugin(pytestconfig):
    pytestconfig.pluginmanager.register(Plugin())

async def test_visit(asgi):
    await visit(asgi)

def test_afterwards():
    assert log == ["startup", "answered", "closed", "shutdown"]

async def test_failure(asgi):
    await asgi(ApplicationCommunicator(failing, {}))
    await asyncio.sleep(0)

async def test_error(asgi):
    await asgi(ApplicationCommunicator(failing, {}))
    await asyncio.sleep(0)
    raise ZeroDivisionError("of the test")
"""
    )
    assert outcomes == {"passed": 2, "failed": 2}
    done.stdout.fnmatch_lines(["E *LookupError: unseen"])
    done.stdout.fnmatch_lines(["E *ZeroDivisionError: of the test"])


@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_loops_of_a_wider_scope_close_the_communicators_of_each_test(outcomes_of, scope):
    _, outcomes = outcomes_of(
        f"""
loops = set()

class TestVisits:
    @pytest.mark.asyncio(loop_scope="{scope}")
    async def test_one(self, asgi):
        loops.add(asyncio.get_running_loop())
        await visit(asgi)

    @pytest.mark.asyncio(loop_scope="{scope}")
    async def test_two(self, asgi):
        assert log == ["startup", "answered", "closed", "shutdown"]
        log.clear()
        loops.add(asyncio.get_running_loop())
        await visit(asgi)

def test_afterwards():
    assert log == ["startup", "answered", "closed", "shutdown"]
    assert len(loops) == 1
"""
    )
    assert outcomes == {"passed": 3}


def test_a_communicator_on_another_loop_is_closed_after_the_tests_own():
    ended = []

    def naming(name):
        async def application(scope, receive, send):
            try:
                await receive()
            finally:
                ended.append(name)

        return ApplicationCommunicator(application, {})

    stack = CommunicatorStack()

    async def enter(name):
        await stack(naming(name))
        await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        runner.run(enter("other loop"))

        async def test():
            await enter("first")
            await enter("second")
            await stack.aclose()

        asyncio.run(test())
        assert ended == ["second", "first"]
        stack.close()
    assert ended == ["second", "first", "other loop"]


def test_a_violation_fails_a_test_whose_loop_is_closed(outcomes_of):
    done, outcomes = outcomes_of(
        """
async def swallowing(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
    try:
        await send({"type": "http.response.body"})
    except AssertionError:
        pass

async def silent(scope, receive, send):
    pass

@pytest.mark.parametrize("make", [
    lambda: HttpExchange(swallowing), lambda: Lifespan(swallowing), lambda: HttpExchange(silent),
])
def test_run(asgi, make):
    async def main():
        communicator = await asgi(make())
        await asyncio.wait({communicator.future})
    asyncio.run(main())
"""
    )
    assert outcomes == {"failed": 3}
    done.stdout.fnmatch_lines(["E *AssertionError: *swallowing sent 'http.response.body' where*"])
    done.stdout.fnmatch_lines(["E *AssertionError: *swallowing sent 'http.response.body' where*"])
    done.stdout.fnmatch_lines(["E *silent returned without starting a response"])


def test_a_response_that_the_end_of_the_loop_interrupts_does_not_fail_the_test(outcomes_of):
    _, outcomes = outcomes_of(
        """
async def returning(scope, receive, send):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return

def test_run(asgi):
    async def main():
        await asgi(HttpExchange(returning))
        await asyncio.sleep(0)
    asyncio.run(main())
"""
    )
    assert outcomes == {"passed": 1}


def test_a_tests_failure_is_not_replaced_and_applications_are_still_closed(outcomes_of):
    done, outcomes = outcomes_of(
        """
@pytest.mark.asyncio
async def test_fails(asgi):
    await asgi(Lifespan(site))
    await asgi(ApplicationCommunicator(failing, {}))
    await asyncio.sleep(0)
    raise ZeroDivisionError("of the test")

def test_afterwards():
    assert log == ["startup", "shutdown"]
"""
    )
    assert outcomes == {"passed": 1, "failed": 1}
    done.stdout.fnmatch_lines(["E *ZeroDivisionError: of the test"])


def test_another_fixture_may_open_what_the_test_talks_to(outcomes_of):
    _, outcomes = outcomes_of(
        """
import pytest_asyncio

@pytest_asyncio.fixture
async def lifespan(asgi):
    return await asgi(Lifespan(site))

@pytest.fixture
def broken():
    raise ZeroDivisionError

@pytest.mark.asyncio
async def test_visit(lifespan):
    assert log == ["startup"]

@pytest.mark.asyncio
async def test_not_reached(lifespan, broken):
    pass

def test_afterwards():
    assert log[:3] == ["startup", "shutdown", "startup"]
"""
    )
    assert outcomes == {"passed": 2, "errors": 1}


def test_a_communicator_that_could_not_be_entered_is_not_exited(outcomes_of):
    _, outcomes = outcomes_of(
        """
async def refusing(scope, receive, send):
    await receive()
    await send({"type": "websocket.close"})

@pytest.mark.asyncio
async def test_denied(asgi):
    with pytest.raises(WebsocketDenied):
        await asgi(WebsocketConversation(refusing))
"""
    )
    assert outcomes == {"passed": 1}


def test_close_leaves_a_communicator_on_a_loop_that_runs_on_another_thread():
    """A portal's loop does this."""

    async def application(scope, receive, send):
        try:
            await receive()
        finally:
            ended.append(threading.current_thread())

    ended = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        stack = CommunicatorStack()
        entering = stack(ApplicationCommunicator(application, {}))
        asyncio.run_coroutine_threadsafe(entering, loop).result(30)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(30)
        stack.close()
        assert ended == [thread]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def test_close_while_another_loop_runs_on_this_thread():
    async def application(scope, receive, send):
        await receive()

    stack = CommunicatorStack()
    with asyncio.Runner() as runner:
        communicator = runner.run(stack(ApplicationCommunicator(application, {})))

        async def other():
            stack.close()

        asyncio.run(other())
        assert communicator.future.cancelled()


def test_close_on_the_tests_loop_raises_an_error_that_says_what_to_do():
    async def application(scope, receive, send):
        await receive()

    async def test():
        stack = CommunicatorStack()
        await stack(ApplicationCommunicator(application, {}))
        with pytest.raises(RuntimeError, match=r"Await aclose\(\) there"):
            stack.close()

    asyncio.run(test())
