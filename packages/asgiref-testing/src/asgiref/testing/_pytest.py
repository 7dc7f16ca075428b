"""The pytest plugin: the ``asgi`` fixture. Only pytest loads this module, through its entry point.

The fixture is a plain function, so that it works with every plugin for asynchronous tests.
Communicators are closed as soon as the test function has returned: in the test's own coroutine if
the plugin passes it on (anyio), otherwise right after it (pytest-asyncio). The teardown of a
fixture would be too late, because plugins may close the loop first.

The entry point also exists without the extra. A pytest that is older than the extra allows does not
support the hook, so this module then defines no fixture.

The invariant: loading the plugin imports no other module from the components, because pytest loads
it before the conftest.py of every project (see the package's module).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._stack import CommunicatorStack

if pytest.version_tuple >= (8,):
    _STACK = pytest.StashKey["CommunicatorStack"]()

    @pytest.fixture
    def asgi(request: pytest.FixtureRequest) -> Generator[CommunicatorStack, None, None]:
        """Keeps communicators open until the test ends: ``await asgi(HttpExchange(app))``."""
        from ._stack import CommunicatorStack

        node: pytest.Item = request.node
        stack = node.stash[_STACK] = CommunicatorStack()
        try:
            yield stack
        finally:
            stack.close()  # for a test that did not run, although its fixtures opened some

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Close a test's communicators during its call, so that their failures fail the test."""
        stack = pyfuncitem.stash.get(_STACK, None)
        if stack is None:
            return (yield)
        function = pyfuncitem.obj
        if inspect.iscoroutinefunction(function):
            pyfuncitem.obj = _closing(function, stack)
        try:
            result = yield
        except BaseException as error:
            stack.close(error)
            raise
        finally:
            pyfuncitem.obj = function
        stack.close()
        return result


def _closing(
    test: Callable[..., Awaitable[object]], stack: CommunicatorStack
) -> Callable[..., Awaitable[object]]:
    """Return a test function that closes the communicators of its loop before it returns."""

    @functools.wraps(test)
    async def closing(*args: object, **kwargs: object) -> object:
        try:
            result = await test(*args, **kwargs)
        except BaseException as error:
            await stack.aclose(error)
            raise
        await stack.aclose()
        return result

    return closing
