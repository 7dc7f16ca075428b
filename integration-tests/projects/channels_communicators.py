"""Channels' communicators, which subclass ours, work as its users use them.

pytest runs these tests in an environment that has Channels. They resemble Channels' own tests of
its ``testing`` module, which its distribution does not contain.
"""

import asyncio
from urllib.parse import unquote

import django
import pytest
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this test",
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from channels.consumer import AsyncConsumer  # noqa: E402
from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import URLRouter  # noqa: E402
from channels.testing import (  # noqa: E402
    ApplicationCommunicator,
    HttpCommunicator,
    WebsocketCommunicator,
)
from django.urls import path  # noqa: E402

import asgiref.testing  # noqa: E402

pytestmark = pytest.mark.asyncio


class Page(AsyncConsumer):
    async def http_request(self, event):
        query = self.scope["query_string"]
        await self.send({"type": "http.response.start", "status": 200, "headers": []})
        await self.send({"type": "http.response.body", "body": query, "more_body": True})
        await self.send({"type": "http.response.body", "body": event["body"]})


class Streaming(AsyncHttpConsumer):
    async def handle(self, body):
        await self.send_headers(status=201, headers=[(b"x-kind", b"stream")])
        for piece in (b"one ", body):
            await self.send_body(piece, more_body=True)
        await self.send_body(b"")


class Echo(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=text_data, bytes_data=bytes_data)


class Closing(WebsocketConsumer):
    def connect(self):
        self.accept()
        self.close()


class Refusing(AsyncWebsocketConsumer):
    async def connect(self):
        await self.close(code=4003)


class Silent(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        pass


class Greeting(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept(subprotocol="chat")
        await self.send(text_data=self.scope["url_route"]["kwargs"]["name"])


class Failing(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        raise LookupError(text_data)


class Location(WebsocketConsumer):
    def connect(self):
        assert self.scope["path"] == unquote(self.scope["path"])
        assert isinstance(self.scope["query_string"], bytes)
        self.accept()
        self.send(text_data=self.scope["path"])


async def test_channels_communicators_are_ours():
    assert issubclass(ApplicationCommunicator, asgiref.testing.ApplicationCommunicator)


@pytest.mark.parametrize("consumer", [Page(), Page.as_asgi()])
async def test_a_page(consumer):
    response = await HttpCommunicator(consumer, "get", "/page/?a=1", body=b"&b").get_response()
    assert response == {"status": 200, "headers": [], "body": b"a=1&b"}


async def test_a_streamed_page():
    communicator = HttpCommunicator(Streaming(), "POST", "/", body=b"two")
    response = await communicator.get_response(timeout=20)
    assert response == {"status": 201, "headers": [(b"x-kind", b"stream")], "body": b"one two"}


async def test_a_socket_that_echoes():
    communicator = WebsocketCommunicator(Echo(), "/socket/")
    assert await communicator.connect(timeout=20) == (True, None)
    await communicator.send_to(text_data="hello")
    assert await communicator.receive_from(timeout=20) == "hello"
    await communicator.send_to(bytes_data=b"\0w")
    assert await communicator.receive_from(timeout=20) == b"\0w"
    await communicator.send_json_to({"hello": [1]})
    assert await communicator.receive_json_from(timeout=20) == {"hello": [1]}
    assert await communicator.receive_nothing() is True
    await communicator.disconnect(timeout=20)
    assert communicator.future.done()


async def test_a_socket_behind_a_route():
    application = URLRouter([path("greet/<str:name>/", Greeting.as_asgi())])
    communicator = WebsocketCommunicator(application, "/greet/ada/", subprotocols=["chat"])
    assert await communicator.connect(timeout=20) == (True, "chat")
    assert await communicator.receive_from(timeout=20) == "ada"
    await communicator.disconnect(timeout=20)
    assert communicator.future.done()


async def test_a_socket_that_is_refused():
    communicator = WebsocketCommunicator(Refusing(), "/")
    assert await communicator.connect(timeout=20) == (False, 4003)
    await communicator.disconnect(timeout=20)
    assert communicator.future.done()


async def test_a_read_that_receives_a_close_reports_it():
    communicator = WebsocketCommunicator(Closing(), "/")
    assert (await communicator.connect(timeout=20))[0] is True
    with pytest.raises(AssertionError, match=r"'websocket\.send', but was 'websocket\.close'"):
        await communicator.receive_from(timeout=20)
    await communicator.disconnect(timeout=20)


async def test_a_read_that_times_out_has_ended_the_application():
    communicator = WebsocketCommunicator(Silent(), "/")
    assert (await communicator.connect(timeout=20))[0] is True
    await communicator.send_to(text_data="hello")
    with pytest.raises(TimeoutError):
        await communicator.receive_from(timeout=0.05)
    with pytest.raises(asyncio.CancelledError):
        await communicator.disconnect()


async def test_a_consumer_that_fails():
    communicator = WebsocketCommunicator(Failing(), "/")
    assert (await communicator.connect(timeout=20))[0] is True
    await communicator.send_to(text_data="on purpose")
    with pytest.raises(LookupError, match="on purpose"):
        await communicator.receive_from(timeout=20)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("user:pass@example.com:8080/p/a?query=string#hash", "pass@example.com:8080/p/a"),
        ("wss://user:pass@example.com:8080/p/a?query=string#hash", "/p/a"),
        ("ws://www.example.com/%E9%A6%96/x?foo=%E9%A6%96&spam=eggs", "/首/x"),
    ],
)
async def test_the_scope_of_a_socket(url, expected):
    communicator = WebsocketCommunicator(Location(), url)
    assert (await communicator.connect(timeout=20))[0] is True
    assert await communicator.receive_from(timeout=20) == expected
    await communicator.disconnect(timeout=20)
