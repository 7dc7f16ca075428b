"""The pytest plugin: the ``asgi`` fixture.

pytest loads this module by its entry point; nothing else imports it. The fixture is a plain
function, so that no plugin for asynchronous tests has to know it: it works in the strict and the
automatic mode of pytest-asyncio, with anyio's plugin, and in tests that call ``asyncio.run``.

What a test opened is closed as soon as its function has returned. The teardown of the fixture would
be too late: the plugins may close the test's loop before it.

The entry point is there whether or not the extra was asked for. So a pytest that is older than the
extra allows, in which the hook below could not be declared, goes without the fixture.
"""

from collections.abc import Generator

import pytest

from ._stack import CommunicatorStack

if pytest.version_tuple >= (8,):
    _STACK = pytest.StashKey[CommunicatorStack]()

    @pytest.fixture
    def asgi(request: pytest.FixtureRequest) -> Generator[CommunicatorStack, None, None]:
        """Opens communicators until the test is over: ``await asgi(HttpExchange(app))``."""
        node: pytest.Item = request.node
        stack = node.stash[_STACK] = CommunicatorStack()
        try:
            yield stack
        finally:
            stack.close()  # what other fixtures have opened for a test that was not reached

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Close what the test opened; a failure that it has not seen is its own then."""
        stack = pyfuncitem.stash.get(_STACK, None)
        try:
            result = yield
        except BaseException as error:
            if stack is not None:
                stack.close(error)
            raise
        if stack is not None:
            stack.close()
        return result
