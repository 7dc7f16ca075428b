"""Running an adapted application."""

import asyncio
import functools
import inspect
import sys
from dataclasses import dataclass
from unittest import mock

import pytest

from asgiref.compatibility import double_to_single_callable, guarantee_single_callable


def run(application, scope, inputs=()):
    """Run ``application`` until it ends, and return the list of events that it sent."""
    waiting = list(inputs)
    sent = []

    async def receive():
        return waiting.pop(0)

    async def send(event):
        sent.append(event)

    asyncio.run(application(scope=scope, receive=receive, send=send))
    return sent


class Echo:
    made = 0

    def __init__(self, scope):
        type(self).made += 1
        self.scope = scope

    async def __call__(self, receive, send):
        await send((self.scope["type"], await receive()))


def test_each_scope_gets_its_own_instance():
    Echo.made = 0
    application = guarantee_single_callable(Echo)
    assert run(application, {"type": "a"}, ["1"]) == [("a", "1")]
    assert run(application, {"type": "b"}, ["2"]) == [("b", "2")]
    assert Echo.made == 2


@pytest.mark.parametrize("convert", [guarantee_single_callable, double_to_single_callable])
def test_the_call_returns_the_instances_value(convert):
    def application(scope):
        async def instance(receive, send):
            return scope["type"]

        return instance

    assert asyncio.run(convert(application)({"type": "a"}, None, None)) == "a"


def test_an_exception_from_the_instance_passes_through():
    class Failing(Echo):
        async def __call__(self, receive, send):
            raise LookupError("from the instance")

    with pytest.raises(LookupError, match="from the instance"):
        run(double_to_single_callable(Failing), {"type": "a"})


def test_an_exception_while_the_instance_is_made_passes_through():
    def refuses(scope):
        raise ValueError(f"cannot serve {scope['type']}")

    with pytest.raises(ValueError, match="cannot serve a"):
        run(double_to_single_callable(refuses), {"type": "a"})


def test_a_cancelled_call_cancels_the_instance():
    async def main():
        begun, ended = asyncio.Event(), []

        def application(scope):
            async def instance(receive, send):
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append(True)

            return instance

        task = asyncio.create_task(double_to_single_callable(application)({}, None, None))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(main())


def test_an_application_that_returns_no_callable_for_a_scope_is_named_in_the_error():
    def forgets_its_instance(scope):
        return None

    with pytest.raises(TypeError, match=r"forgets_its_instance.*'NoneType' instead of a callable"):
        run(double_to_single_callable(forgets_its_instance), {"type": "a"})


def test_an_async_function_that_takes_only_the_scope_is_an_error_without_a_stray_coroutine():
    async def wrong(scope):
        raise AssertionError("never run")

    with pytest.raises(TypeError, match=r"wrong.*'coroutine' instead of a callable"):
        run(double_to_single_callable(wrong), {"type": "a"})


class Meta(type):
    def __call__(cls, scope, further):
        return super().__call__(scope)


class OfMeta(metaclass=Meta):
    def __init__(self, scope):
        pass


class New:
    def __new__(cls, scope, further):
        return super().__new__(cls)

    def __init__(self, scope):
        pass


class NoArguments:
    def __init__(self):
        pass


class KeywordOnly:
    def __init__(self, scope, *, needed):
        pass


@dataclass
class Record:
    scope: dict
    further: int = 0


def takes_a_scope(application):
    try:
        inspect.signature(application, follow_wrapped=False).bind({})
    except TypeError:
        return False
    except ValueError:  # without a signature, only a call can tell
        return True
    return True


@pytest.mark.parametrize(
    "application",
    [
        *(Echo, Meta, OfMeta, New, NoArguments, KeywordOnly, Record, object, int),
        lambda scope: None,
        lambda: None,
        lambda scope, further: None,
        lambda scope, further=1: None,
        lambda scope=None, /: None,
        lambda *scope: None,
        lambda scope, *, needed: None,
        lambda scope, *, given=1: None,
        lambda *, scope: None,
        lambda **scope: None,
        functools.partial(lambda scope, further: None, {}),
        functools.partial(lambda scope: None, {}),
        functools.partial(lambda scope, /, **options: None, scope=1),
        functools.partial(lambda scope, /, further=1, **options: None, scope=1, further=2),
        functools.partial(lambda scope, further=1, /, **options: None, further=2),
        functools.partial(lambda scope, **options: None, scope=1),
        functools.partial(lambda scope, further, **options: None, further=1),
        Echo({}).__call__,
        len,
    ],
)
def test_only_callables_that_accept_a_scope_are_accepted(application):
    if takes_a_scope(application):
        assert callable(double_to_single_callable(application))
    else:
        with pytest.raises(TypeError, match="is not an ASGI application"):
            double_to_single_callable(application)


def test_a_keyword_does_not_fill_a_positional_only_parameter():
    # inspect.signature() says that this call would succeed; it raises TypeError.
    application = functools.partial(lambda scope, further, /, **options: None, further=1)
    with pytest.raises(TypeError, match="is not an ASGI application"):
        double_to_single_callable(application)


class ClassSignature:
    __signature__ = inspect.Signature()

    def __init__(self, scope):
        pass

    async def __call__(self, receive, send):
        await send("served")


class RaisingSignature(ClassSignature):
    @property
    def __signature__(self):
        raise LookupError("no signature")

    def __init__(self, scope=None):
        pass

    def __call__(self, scope):
        return ClassSignature(scope)


class StaticCall:
    @staticmethod
    def __call__(scope):
        return ClassSignature(scope)


class Unprintable:
    def __call__(self, scope):
        return ClassSignature(scope)

    def __repr__(self):
        raise LookupError("no repr")

    def method(self, scope):
        return self(scope)


def signed(scope):
    return ClassSignature(scope)


signed.__signature__ = inspect.Signature()


def wrapping(*args):
    return signed(*args)


functools.update_wrapper(wrapping, asyncio.sleep)

ACCEPTED = [
    *(ClassSignature, RaisingSignature(), StaticCall(), Unprintable(), Unprintable().method),
    *(signed, wrapping, functools.partial(signed), functools.partial(functools.partial(signed))),
    functools.partial(lambda first, scope: signed(scope), 1),
    functools.partial(lambda scope, *, word: signed(scope), word=1),
    mock.create_autospec(lambda scope: None, side_effect=signed),
    mock.Mock(spec=[], side_effect=signed),
    functools.lru_cache(Unprintable()),
]


@pytest.mark.parametrize("application", ACCEPTED, ids=lambda each: type(each).__name__)
def test_a_signature_that_misleads_or_raises_does_not_matter(application):
    if isinstance(application, functools._lru_cache_wrapper):
        scope = "hashable"
    else:
        scope = {"type": "test"}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guarantee_single_callable(application)(scope, None, send))
    assert sent == ["served"]


def test_annotations_that_cannot_be_evaluated_do_not_matter():
    namespace = {"ClassSignature": ClassSignature}
    source = """
class Router:
    def __call__(self, scope: "Missing", **options: "Missing"):
        return ClassSignature(scope)
    def method(self, scope: "Missing"):
        return self(scope)
class Consumer(ClassSignature):
    def __init__(self, scope: "Missing", *args, **kwargs): pass
class New(ClassSignature):
    def __new__(cls, *args: "Missing"): return object.__new__(cls)
"""
    if sys.version_info >= (3, 14):
        source = source.replace('"Missing"', "Missing")
    exec(source, namespace)
    router = namespace["Router"]()
    sent = []

    async def send(message):
        sent.append(message)

    for application in (router, router.method, namespace["Consumer"], namespace["New"]):
        asyncio.run(guarantee_single_callable(application)({"type": "test"}, None, send))
    assert sent == ["served"] * 4


def test_an_application_whose_repr_raises_is_still_named():
    class Wrong(Unprintable):
        def __call__(self, scope, receive):
            pass

    with pytest.raises(TypeError, match="Wrong, whose repr"):
        double_to_single_callable(Wrong())
