"""All exceptions and results from user code reach the caller and cost no thread or token."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile import (
    EXCEPTIONS,
    Expression,
    Frozen,
    Registered,
    Reluctant,
    ReluctantValue,
    Unreadable,
)
from probes import DEFAULT_LIMIT, assert_all_works, double, outcome, outcome_of, use_every_token

from asgiref.sync import (
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(20, method="thread")

KINDS = ["sensitive", "parallel", "context", "executor"]

each_kind = pytest.mark.parametrize("kind", KINDS)
each_exception = pytest.mark.parametrize("make", EXCEPTIONS.values(), ids=list(EXCEPTIONS))


@contextlib.asynccontextmanager
async def caller(kind, wrapper=sync_to_async):
    """Yield a wrapper that turns a function into a call of this kind."""
    if kind == "context":
        async with ThreadSensitiveContext():
            yield wrapper
    elif kind == "executor":
        with ThreadPoolExecutor(1) as executor:
            yield functools.partial(wrapper, thread_sensitive=False, executor=executor)
    else:
        yield functools.partial(wrapper, thread_sensitive=kind == "sensitive")


def raise_(error):
    raise error


async def raise_async(error):
    await asyncio.sleep(0)
    raise error


def run(main, *args):
    return asyncio.run(asyncio.wait_for(main(*args), 15))


def same(one, other):
    """Compare by identity, without using any method of either.

    A coroutine that is closed raises its own GeneratorExit.
    """
    return one is other or type(one) is type(other) is GeneratorExit


@each_kind
@each_exception
def test_a_functions_exception_reaches_the_awaiting_task(kind, make):
    async def main():
        error = make()
        async with caller(kind) as call:
            raised = [await outcome_of(call(raise_)(error)) for _ in range(DEFAULT_LIMIT + 1)]
            assert await call(int)("1") == 1
        assert [same(one, error) for one in raised] == [True] * len(raised)
        await use_every_token()

    run(main)


@each_exception
def test_a_coroutines_exception_reaches_the_waiting_thread(make):
    error = make()
    raised = [outcome(async_to_sync(raise_async), error) for _ in range(3)]
    below = [
        asyncio.run(
            sync_to_async(outcome, thread_sensitive=sensitive)(async_to_sync(raise_async), error)
        )
        for sensitive in (True, False)
    ]
    assert [same(one, error) for one in raised + below] == [True] * 5
    assert async_to_sync(double)(2) == 4


@each_exception
def test_an_exception_passes_through_both_directions(make):
    error = make()

    async def main():
        await sync_to_async(async_to_sync(raise_async))(error)

    assert same(outcome(async_to_sync(main)), error)

    async def below():
        return [
            await outcome_of(
                sync_to_async(async_to_sync(raise_async), thread_sensitive=flag)(error)
            )
            for flag in (True, False)
        ]

    assert all(same(one, error) for one in run(below))


@each_kind
@each_exception
def test_a_function_called_from_an_except_block_sees_the_handled_exception(kind, make):
    async def call_while_handling(call, error):
        try:
            raise error
        except BaseException:
            handled = await call(sys.exception)()
            return same(handled, error) and same(sys.exception(), error)

    async def main():
        async with caller(kind) as call:
            result = await outcome_of(call_while_handling(call, make()))
            assert type(result) is bool, type(result)  # assertion messages would call more methods
            assert result
            assert await call(sys.exception)() is None

    run(main)


@each_exception
def test_a_coroutine_called_from_an_except_block_sees_the_handled_exception(make):
    async def handled():
        await asyncio.sleep(0)
        return sys.exception()

    def call():
        error = make()
        try:
            raise error
        except BaseException:
            return same(async_to_sync(handled)(), error) and same(sys.exception(), error)

    for result in (outcome(call), asyncio.run(outcome_of(sync_to_async(call)()))):
        assert type(result) is bool, type(result)
        assert result
    assert async_to_sync(handled)() is None


@each_kind
@pytest.mark.parametrize("value", [None, 1, ReluctantValue()], ids=["none", "one", "reluctant"])
def test_a_stop_iteration_becomes_an_error_that_explains_it(kind, value):
    async def main():
        async with caller(kind) as call:
            for _ in range(DEFAULT_LIMIT + 1):
                error = await outcome_of(call(raise_)(StopIteration(value)))
                assert type(error) in (RuntimeError, TypeError)
                assert "StopIteration" in str(error)
            assert await call(int)("1") == 1

    run(main)


@each_kind
def test_a_futures_cancelled_error_in_user_code_does_not_cancel_the_task(kind):
    async def main():
        async with caller(kind) as call:
            error = await outcome_of(call(raise_)(concurrent.futures.CancelledError()))
            assert isinstance(error, (asyncio.CancelledError, concurrent.futures.CancelledError))
            assert asyncio.current_task().cancelling() == 0
            assert await call(int)("1") == 1

    run(main)


RETURNED = {
    "none": lambda: None,
    "not implemented": lambda: NotImplemented,
    "reluctant": ReluctantValue,
    "exception": lambda: Frozen("returned"),
    "cancelled error": asyncio.CancelledError,
    "reluctant exception": Reluctant,
    "unreadable": Unreadable,
    "exception class": lambda: KeyboardInterrupt,
    "future of threads": concurrent.futures.Future,
    "generator": lambda: (number for number in ()),
}


@each_kind
@pytest.mark.parametrize("make", RETURNED.values(), ids=list(RETURNED))
def test_arguments_and_results_pass_through_unchanged(kind, make):
    async def echo(value):
        return value

    def bridge(value, *, named):
        assert same(value, named)
        return async_to_sync(echo)(value)

    async def main():
        value = make()
        async with caller(kind) as call:
            assert same(await call(bridge)(value, named=value), value)
            assert same(await call(lambda: value)(), value)
            assert await call(int)("1") == 1

    run(main)
    value = make()
    assert same(async_to_sync(echo)(value), value)


@each_kind
def test_a_hostile_callable_is_called(kind):
    class Callable_(ReluctantValue):
        def __call__(self, value):
            return value + 1

        def __getattr__(self, name):
            raise AttributeError(name)

    class Async(Callable_):
        async def __call__(self, value):
            await asyncio.sleep(0)
            return value + 2

    async def main():
        async with caller(kind) as call:
            assert await call(Callable_())(1) == 2
            assert await call(lambda: async_to_sync(Async())(1))() == 3

    run(main)
    assert async_to_sync(Async())(1) == 3


@each_kind
@pytest.mark.parametrize(
    "makes",
    [(ReluctantValue, Reluctant, Unreadable), (Expression,) * 3, (Registered,) * 3],
    ids=["reluctant", "any name", "no name"],
)
def test_context_variables_may_hold_anything(kind, makes):
    variable = contextvars.ContextVar("variable")
    first, second, third = (make() for make in makes)

    async def change():
        assert same(variable.get(), second)
        variable.set(third)

    def work():
        assert same(variable.get(), first)
        variable.set(second)
        async_to_sync(change)()
        assert same(variable.get(), third)

    async def main():
        variable.set(first)
        async with caller(kind) as call:
            await call(work)()
        assert same(variable.get(), third)

    run(main)


@each_kind
@each_exception
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_thread_handler_may_raise(kind, make, when):
    error = make()

    class Handled(SyncToAsync):
        def thread_handler(self, *args, **kwargs):
            if when == "after":
                super().thread_handler(*args, **kwargs)
            raise error

    async def main():
        async with caller(kind, Handled) as call:
            assert same(await outcome_of(call(int)("1")), error)
        async with caller(kind) as call:
            assert await call(int)("1") == 1

    run(main)


@each_exception
@pytest.mark.parametrize("when", ["called", "before", "after"])
def test_a_main_wrap_may_raise(make, when):
    error = make()

    class Called(AsyncToSync):
        def main_wrap(self, call_result, exc_info, task_context, context, awaitable):
            awaitable.close()
            raise error

    class Awaited(AsyncToSync):
        async def main_wrap(self, call_result, exc_info, task_context, context, awaitable):
            if when == "after":
                await super().main_wrap(call_result, exc_info, task_context, context, awaitable)
            else:
                awaitable.close()
            raise error

    def is_expected(result):
        return (
            same(result, error)
            or type(result) is type(error) is asyncio.CancelledError
            or (when == "after" and type(result) is int)
        )

    call = Called(double) if when == "called" else Awaited(double)
    assert is_expected(outcome(call, 2))
    # Called from async code, the task runs on the application's loop, which SystemExit ends.
    assert is_expected(outcome(asyncio.run, sync_to_async(outcome)(call, 2)))
    assert async_to_sync(double)(2) == 4
    assert asyncio.run(sync_to_async(async_to_sync(double))(2)) == 4


def test_a_main_wrap_that_sets_no_outcome_is_an_error_and_not_a_hang():
    class Forgetful(AsyncToSync):
        async def main_wrap(self, call_result, exc_info, task_context, context, awaitable):
            awaitable.close()

    assert isinstance(outcome(Forgetful(double), 2), RuntimeError)
    below = asyncio.run(sync_to_async(outcome)(Forgetful(double), 2))
    assert isinstance(below, RuntimeError)


@each_exception
def test_a_done_callback_of_the_calls_own_task_may_raise(make):
    error, called = make(), []

    def callback(task):
        called.append(task)
        raise error

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asyncio.current_task().add_done_callback(callback)
        return 1

    result = outcome(async_to_sync(main))
    assert result == 1 if type(result) is int else same(result, error)
    assert len(called) == 1
    assert_all_works()


def test_a_value_whose_finalizer_raises_breaks_no_thread(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))

    class DiesBadly:
        def __del__(self):
            raise Frozen("finalizer")

    class DiesBadlyError(DiesBadly, Exception):
        pass

    def fail(argument):
        raise DiesBadlyError

    async def main():
        for kind in KINDS:
            async with caller(kind) as call:
                await call(lambda argument: DiesBadly())(DiesBadly())
                await outcome_of(call(fail)(DiesBadly()))
                assert await call(int)("1") == 1

    run(main)
    assert type(outcome(async_to_sync(raise_async), DiesBadlyError())) is DiesBadlyError
    assert_all_works()
    gc.collect()
    assert Frozen in unraisable


def test_exceptions_from_user_code_end_no_thread():
    died = []
    before, threading.excepthook = threading.excepthook, died.append
    try:
        for make in EXCEPTIONS.values():
            asyncio.run(outcome_of(sync_to_async(raise_)(make())))
            asyncio.run(outcome_of(sync_to_async(raise_, thread_sensitive=False)(make())))
            outcome(async_to_sync(raise_async), make())
        assert_all_works()
    finally:
        threading.excepthook = before
    assert died == []
