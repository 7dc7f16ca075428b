import asyncio
import threading

from django_setup import configure

configure(__name__, "channels")

from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import WebsocketConsumer  # noqa: E402
from channels.testing import WebsocketCommunicator  # noqa: E402
from django.db import connection  # noqa: E402

urlpatterns = []


class Echo(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=f"{text_data} {threading.current_thread() is MAIN}")


MAIN = threading.current_thread()


def one():
    with connection.cursor() as cursor:
        return cursor.execute("SELECT 1").fetchone()[0]


def test_a_sync_consumer_answers_from_another_thread():
    async def converse():
        communicator = WebsocketCommunicator(Echo.as_asgi(), "/")
        assert (await communicator.connect())[0]
        await communicator.send_to(text_data="hello")
        answer = await communicator.receive_from()
        await communicator.disconnect()
        return answer

    assert asyncio.run(converse()) == "hello False"


def test_a_query_runs_from_a_coroutine():
    assert asyncio.run(database_sync_to_async(one)()) == 1
