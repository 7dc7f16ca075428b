"""The style of an application, and the error for objects that follow neither style."""

import asyncio
import functools

import pytest

from asgiref.compatibility import (
    double_to_single_callable,
    guarantee_single_callable,
    is_double_callable,
)


async def single(scope, receive, send):
    pass


def double(scope):
    async def instance(receive, send):
        await send((scope["type"], await receive()))

    return instance


class SingleInstance:
    async def __call__(self, scope, receive, send):
        pass


class DoubleClass:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await send((self.scope["type"], await receive()))


class DoubleInstance:
    def __call__(self, scope):
        return double(scope)


class Methods:
    async def single(self, scope, receive, send):
        pass

    def double(self, scope):
        return double(scope)

    @classmethod
    async def single_of_class(cls, scope, receive, send):
        pass

    @staticmethod
    async def single_static(scope, receive, send):
        pass


async def single_with_option(option, scope, receive, send):
    pass


def double_with_option(option, scope):
    return double(scope)


SINGLE = [
    single,
    SingleInstance(),
    Methods().single,
    Methods.single_of_class,
    Methods.single_static,
    functools.partial(single_with_option, 1),
    functools.partial(functools.partial(single_with_option, 1)),
    functools.partial(SingleInstance()),
    functools.partial(Methods().single),
]
DOUBLE = [
    double,
    DoubleClass,
    DoubleInstance(),
    Methods().double,
    functools.partial(double_with_option, 1),
    functools.partial(DoubleClass),
    functools.partial(DoubleInstance()),
    lambda scope: double(scope),
]


@pytest.mark.parametrize("application", SINGLE)
def test_a_single_callable_application_is_recognized_and_passed_through(application):
    assert is_double_callable(application) is False
    assert guarantee_single_callable(application) is application


@pytest.mark.parametrize("application", DOUBLE)
def test_a_double_callable_application_is_recognized_and_adapted(application):
    assert is_double_callable(application) is True
    adapted = guarantee_single_callable(application)
    assert adapted is not application
    assert is_double_callable(adapted) is False


def test_a_hint_on_the_object_decides():
    def looks_double(scope, receive, send):
        return single(scope, receive, send)

    looks_double._asgi_single_callable = True
    assert is_double_callable(looks_double) is False
    assert guarantee_single_callable(looks_double) is looks_double

    async def looks_single(scope):
        pass

    looks_single._asgi_double_callable = True
    assert is_double_callable(looks_single) is True


def test_the_hint_for_single_wins_over_the_hint_for_double():
    def both(scope, receive, send):
        pass

    both._asgi_single_callable = both._asgi_double_callable = True
    assert is_double_callable(both) is False


def test_a_middlewares_parameters_decide_not_those_of_the_function_it_wraps():
    @functools.wraps(single)
    def middleware(scope):
        return double(scope)

    assert guarantee_single_callable(middleware) is not middleware


@pytest.mark.parametrize("convert", [guarantee_single_callable, double_to_single_callable])
@pytest.mark.parametrize("thing", [None, 42, "module:application", object()])
def test_a_placeholder_that_is_not_callable_is_rejected_by_name_when_it_is_called(convert, thing):
    placeholder = convert(thing)
    assert is_double_callable(placeholder) is False
    with pytest.raises(TypeError, match="not an ASGI application: it is not callable") as caught:
        asyncio.run(placeholder({}, None, None))
    assert repr(thing) in str(caught.value)


def test_a_hint_does_not_make_an_object_callable():
    class Hinted:
        _asgi_single_callable = True

    with pytest.raises(TypeError, match="not callable"):
        asyncio.run(guarantee_single_callable(Hinted())({}, None, None))


def wsgi(environ, start_response):
    return []


class NoScope:
    """A class passed instead of its instance."""

    async def __call__(self, scope, receive, send):
        pass


@pytest.mark.parametrize("application", [wsgi, NoScope])
def test_an_application_of_neither_style_is_rejected_by_name(application):
    with pytest.raises(TypeError, match=f"{application.__name__} is not an ASGI app.*neither"):
        guarantee_single_callable(application)


def test_a_callable_without_a_signature_is_accepted():
    assert guarantee_single_callable(dict) is not dict


class HintedInstance:
    """A hint decides, because ``__call__`` does not show whether it returns a coroutine."""

    def __init__(self, **hints):
        vars(self).update(hints)

    def __call__(self, *args):
        return single(*args) if len(args) == 3 else double(*args)


def test_a_hint_on_an_instance_decides():
    hinted = HintedInstance(_asgi_single_callable=True)
    assert is_double_callable(hinted) is False
    assert guarantee_single_callable(hinted) is hinted
    hinted = HintedInstance(_asgi_double_callable=True)
    assert is_double_callable(hinted) is True
    assert guarantee_single_callable(hinted) is not hinted


def test_a_hint_on_a_class_takes_precedence_over_the_rule_for_classes():
    class Served:
        _asgi_single_callable = True

        def __new__(cls, scope, receive, send):
            return single(scope, receive, send)

    assert is_double_callable(Served) is False
    assert guarantee_single_callable(Served) is Served


def test_a_false_hint_is_ignored():
    assert is_double_callable(HintedInstance(_asgi_double_callable=False)) is True

    async def application(scope, receive, send):
        pass

    application._asgi_single_callable = application._asgi_double_callable = False
    assert is_double_callable(application) is False


@pytest.mark.parametrize(
    ("application", "name"),
    [
        (functools.partial(wsgi, {}, None), "partial"),
        (lambda scope, receive: None, "<lambda>"),
        (type("Two", (), {"__call__": lambda self, scope, send: None})(), "Two object"),
    ],
)
def test_the_error_for_neither_style_names_the_object(application, name):
    with pytest.raises(TypeError, match=r"is not an ASGI application.*neither") as caught:
        guarantee_single_callable(application)
    assert name in str(caught.value)
