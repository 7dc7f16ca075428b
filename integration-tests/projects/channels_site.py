"""Talk to async and sync Channels consumers over websockets, and print their answers as JSON."""

import asyncio
import json

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this test",
    INSTALLED_APPS=["daphne", "channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.testing import WebsocketCommunicator  # noqa: E402
from daphne.server import Server  # noqa: E402
from django.urls import path  # noqa: E402

from asgiref.sync import async_to_sync  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        loud = await database_sync_to_async(text_data.upper)()
        await self.send(text_data=loud)


class Room(WebsocketConsumer):
    """Sync code that calls the channel layer's coroutines: every step crosses the bridge twice."""

    def connect(self):
        async_to_sync(self.channel_layer.group_add)("room", self.channel_name)
        self.accept()

    def receive(self, text_data=None, bytes_data=None):
        message = {"type": "room.message", "text": text_data}
        async_to_sync(self.channel_layer.group_send)("room", message)

    def room_message(self, event):
        self.send(text_data=event["text"])

    def disconnect(self, code):
        async_to_sync(self.channel_layer.group_discard)("room", self.channel_name)


application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("echo", Echo.as_asgi()), path("room", Room.as_asgi())])}
)


async def echo():
    communicator = WebsocketCommunicator(application, "/echo")
    connected, _ = await communicator.connect(timeout=20)
    await communicator.send_to(text_data="hello")
    answer = await communicator.receive_from(timeout=20)
    await communicator.disconnect(timeout=20)
    return [connected, answer]


async def room():
    members = [WebsocketCommunicator(application, "/room") for _ in range(3)]
    for member in members:
        await member.connect(timeout=20)
    await members[0].send_to(text_data="to all")
    heard = [await member.receive_from(timeout=20) for member in members]
    quiet = [await member.receive_nothing() for member in members]
    for member in members:
        await member.disconnect(timeout=20)
    return [heard, quiet]


seen = {"echo": asyncio.run(echo()), "room": asyncio.run(room()), "daphne": Server.__module__}
print(json.dumps(seen))
