"""Context variables, handled exceptions and other state that crosses the bridge."""

import asyncio
import contextvars
import sys
import threading

import pytest

from asgiref.sync import async_to_sync, sync_to_async

variable = contextvars.ContextVar("variable", default="unset")
other = contextvars.ContextVar("other", default="unset")


@pytest.mark.parametrize("many", [0, 30])
def test_changes_propagate_from_sync_code(many):
    async def main():
        for number in range(many):
            contextvars.ContextVar(str(number)).set(number)
        variable.set("before")

        def work():
            seen = variable.get()
            variable.set("after")
            return seen

        return await sync_to_async(work)(), variable.get()

    assert contextvars.Context().run(asyncio.run, main()) == ("before", "after")


@pytest.mark.parametrize("many", [0, 30])
def test_changes_propagate_from_async_code(many):
    async def work():
        seen = variable.get()
        variable.set("after")
        return seen

    def main():
        for number in range(many):
            contextvars.ContextVar(str(number)).set(number)
        variable.set("before")
        return async_to_sync(work)(), variable.get()

    assert contextvars.Context().run(main) == ("before", "after")


def test_only_changed_variables_are_propagated_back():
    async def main():
        started, release = threading.Event(), threading.Event()

        def change_other():
            started.set()
            release.wait(30)
            other.set("from the thread")

        task = asyncio.ensure_future(in_this_context(sync_to_async(change_other)()))
        await asyncio.to_thread(started.wait, 30)
        variable.set("set meanwhile")
        release.set()
        await task
        return variable.get(), other.get()

    def in_this_context(coroutine):
        return asyncio.get_running_loop().create_task(coroutine, context=context)

    context = contextvars.Context()

    async def run():
        return await asyncio.get_running_loop().create_task(main(), context=context)

    assert asyncio.run(run()) == ("set meanwhile", "from the thread")


def test_a_given_context_is_used_and_the_callers_context_is_unchanged():
    context = contextvars.Context()

    async def main():
        await sync_to_async(variable.set, context=context)("inside")
        return variable.get()

    assert contextvars.Context().run(asyncio.run, main()) == "unset"
    assert context[variable] == "inside"


def test_values_are_not_compared_by_equality():
    class Incomparable:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    async def main():
        for number in range(10):
            contextvars.ContextVar(str(number)).set(Incomparable())
        variable.set(Incomparable())
        await sync_to_async(variable.set)(Incomparable())
        return type(variable.get())

    assert contextvars.Context().run(asyncio.run, main()) is Incomparable


class Traveller:
    """A value whose hook records the sending thread and the thread that calls the hook."""

    def __init__(self, asked=()):
        self.asked = asked

    def __asgiref_bridge__(self, sender):
        return Traveller((*self.asked, (sender, threading.current_thread())))


def test_a_values_hook_is_called_on_the_way_to_async_code():
    async def work():
        return variable.get().asked, threading.current_thread()

    def main():
        variable.set(Traveller())
        (asked, thread) = async_to_sync(work)()
        return asked == ((threading.current_thread(), thread),) and variable.get().asked == ()

    assert contextvars.Context().run(main)


def test_a_changed_values_hook_is_called_on_the_way_back():
    async def main():
        await sync_to_async(lambda: variable.set(Traveller()))()
        return variable.get().asked == ((None, threading.current_thread()),)

    assert contextvars.Context().run(asyncio.run, main())

    async def work():
        variable.set(Traveller())

    def synchronous():
        async_to_sync(work)()
        return variable.get().asked == ((None, threading.current_thread()),)

    assert contextvars.Context().run(synchronous)


@pytest.mark.parametrize("owned", [False, True])
def test_a_values_hook_is_called_on_the_way_to_sync_code_from_a_marked_thread(owned):
    async def main():
        variable.set(Traveller())
        return await sync_to_async(lambda: (variable.get().asked, threading.current_thread()))()

    here = threading.current_thread()
    if owned:
        here.__dict__["__asgiref_owner__"] = object()
    try:
        asked, worker = contextvars.Context().run(asyncio.run, main())
    finally:
        here.__dict__.pop("__asgiref_owner__", None)
    always = getattr(sys.flags, "thread_inherit_context", 0)
    assert asked == (((here, worker),) if owned or always else ())


def handled_exception():
    return sys.exc_info()[1]


def test_the_handled_exception_is_visible_in_sync_code_and_unchanged():
    async def main():
        try:
            raise KeyError("handled")
        except KeyError as error:
            traceback = error.__traceback__
            seen = await sync_to_async(handled_exception)()
            return seen is error, error.__traceback__ is traceback, error.__context__

    assert asyncio.run(main()) == (True, True, None)
    assert sys.exc_info() == (None, None, None)


def test_the_handled_exception_is_visible_in_async_code_and_unchanged():
    async def seen():
        await asyncio.sleep(0)
        return sys.exc_info()[1]

    try:
        raise KeyError("handled")
    except KeyError as error:
        handled, traceback, result = error, error.__traceback__, async_to_sync(seen)()
    assert result is handled
    assert handled.__traceback__ is traceback
    assert handled.__context__ is None


def test_a_handled_exception_does_not_replace_the_one_that_the_thread_handles():
    async def inner():
        try:
            raise KeyError("inner")
        except KeyError as error:
            await sync_to_async(handled_exception)()
            return error.__context__

    try:
        raise ValueError("outer")
    except ValueError as error:
        outer, context = error, async_to_sync(inner)()
    # The inner exception was raised while the bridge made the outer one visible to it.
    assert context is outer


def test_an_exception_raised_across_the_bridge_has_the_handled_one_as_context():
    def fail():
        raise LookupError("second")

    async def main():
        try:
            raise KeyError("first")
        except KeyError as first:
            with pytest.raises(LookupError) as caught:
                await sync_to_async(fail)()
            return caught.value.__context__ is first

    assert asyncio.run(main())


def test_stop_iteration_becomes_an_error_that_explains_it():
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await sync_to_async(next)(iter(()))
        return type(caught.value.__cause__)

    assert asyncio.run(main()) is StopIteration


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exceptions_of_every_kind_cross_from_async_code(error):
    async def fail():
        raise error("crossed")

    with pytest.raises(error, match="crossed"):
        async_to_sync(fail)()
