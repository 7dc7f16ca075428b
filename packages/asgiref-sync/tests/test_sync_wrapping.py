"""The attributes of wrappers, and the errors for wrong use."""

import asyncio
import functools
import inspect
import threading
import weakref

import pytest

from asgiref.sync import (
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    iscoroutinefunction,
    markcoroutinefunction,
    sync_to_async,
)


def documented(first: int, second: str = "x") -> bytes:
    """Say something."""
    return b""


async def documented_async(first: int, second: str = "x") -> bytes:
    """Say something."""
    return b""


class Methods:
    @sync_to_async
    def to_async(self, value):
        return self, value

    @async_to_sync
    async def to_sync(self, value):
        return self, value


@pytest.mark.parametrize(
    "wrapper", [sync_to_async(documented), async_to_sync(documented_async)], ids=["async", "sync"]
)
def test_wrappers_carry_the_identity_of_the_wrapped_function(wrapper):
    wrapped = wrapper.__wrapped__
    assert wrapper.__name__ == wrapped.__name__
    assert wrapper.__doc__ == "Say something."
    assert wrapper.__module__ == __name__
    assert str(inspect.signature(wrapper)) == "(first: int, second: str = 'x') -> bytes"


def test_only_the_async_wrapper_is_a_coroutine_function():
    @markcoroutinefunction
    def marked():
        return asyncio.sleep(0)

    assert iscoroutinefunction(sync_to_async(documented))
    assert not iscoroutinefunction(async_to_sync(documented_async))
    assert not iscoroutinefunction(async_to_sync(marked))
    assert iscoroutinefunction(Methods().to_async)
    assert not iscoroutinefunction(Methods().to_sync)


def test_attributes_are_copied_but_never_replace_the_wrappers_own():
    def function():
        return "called"

    function.extra = "kept"
    function.thread_handler = function.func = function.context = "must not be used"
    wrapper = sync_to_async(function)
    assert wrapper.extra == "kept"
    assert wrapper.func is function
    assert wrapper.context is None
    assert asyncio.run(wrapper()) == "called"


def test_a_method_with_an_attribute_called_function_runs_on_a_worker_thread():
    def method(self):
        return threading.current_thread()

    method._function = "set by a decorator"
    wrapper = sync_to_async(method)
    assert wrapper._function == "set by a decorator"
    bound = type("Class", (), {"method": wrapper})().method
    assert asyncio.run(bound()) is not threading.current_thread()


@pytest.mark.parametrize("name", ["to_async", "to_sync"])
def test_methods_bind_as_methods(name):
    instance = Methods()
    method = getattr(instance, name)
    assert method == getattr(instance, name)
    assert method != getattr(Methods(), name)
    assert method.__self__ is instance
    assert method.__name__ == name
    assert weakref.WeakMethod(method)() == method


def test_methods_can_be_called_on_the_instance_and_on_the_class():
    instance = Methods()
    assert instance.to_sync(1) == Methods.to_sync(instance, 1) == (instance, 1)
    assert asyncio.run(instance.to_async(2)) == (instance, 2)
    assert asyncio.run(Methods.to_async(instance, 2)) == (instance, 2)


def test_wrapped_bound_methods_keep_their_object():
    text = "abc"
    assert sync_to_async(text.upper).__self__ is text
    assert asyncio.run(sync_to_async(text.upper)()) == "ABC"


def test_decorators_take_arguments():
    @sync_to_async(thread_sensitive=False)
    def plain():
        return 1

    @async_to_sync(force_new_loop=True)
    async def coroutine():
        return await plain()

    assert coroutine() == 1


def test_partials_and_callable_objects_can_be_wrapped():
    class Callable:
        async def __call__(self, value):
            return value

    assert async_to_sync(Callable())(3) == 3
    assert async_to_sync(functools.partial(documented_async, 1))() == b""
    assert asyncio.run(sync_to_async(functools.partial(int, "7"))()) == 7


class AsyncCallable:
    async def __call__(self):
        pass


@pytest.mark.parametrize(
    "culprit", [1, documented_async, functools.partial(documented_async, 1), AsyncCallable()]
)
def test_sync_to_async_names_the_object_that_is_not_a_synchronous_callable(culprit):
    with pytest.raises(TypeError) as caught:
        sync_to_async(culprit)
    assert caught.value.args == ("sync_to_async can only be applied to sync functions.",)
    name = getattr(culprit, "__qualname__", None) or repr(culprit)
    assert name in caught.value.__notes__[0]


def test_an_executor_for_thread_sensitive_code_is_refused():
    with pytest.raises(TypeError, match=r"executor must not be set .*documented"):
        sync_to_async(documented, executor=object())


@pytest.mark.parametrize("culprit", [1, documented, Methods])
def test_async_to_sync_warns_about_an_object_that_is_not_a_coroutine_function(culprit):
    with pytest.warns(UserWarning, match="non-async-marked callable"):
        async_to_sync(culprit)


def test_async_to_sync_refuses_to_block_a_running_loop_and_names_the_function():
    async def main():
        with pytest.raises(RuntimeError, match=r"same thread.*documented_async"):
            async_to_sync(documented_async)(1)

    asyncio.run(main())


def test_a_context_with_an_executor_says_how_it_was_misused():
    class Executor:
        def submit(self, function):
            raise NotImplementedError

    context = ThreadSensitiveContext(executor=Executor())

    async def main():
        async with context:
            with pytest.raises(RuntimeError, match="already entered"):
                await context.__aenter__()
            with pytest.raises(NotImplementedError):
                await sync_to_async(int)()
        with pytest.raises(RuntimeError, match="cannot be entered again"):
            await context.__aenter__()

    asyncio.run(main())


def test_generator_functions_and_callables_that_return_coroutines_stay_as_they_are():
    def generator():
        yield 1

    def returns_coroutine():
        return documented_async(1)

    async def main():
        assert list(await sync_to_async(generator)()) == [1]
        return await (await sync_to_async(returns_coroutine)())

    assert asyncio.run(main()) == b""


def test_the_classes_can_be_used_directly_and_subclassed():
    assert asyncio.run(SyncToAsync(int, False)("3")) == 3
    assert AsyncToSync(documented_async, True)(1) == b""
