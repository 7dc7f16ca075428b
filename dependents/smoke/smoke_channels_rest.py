import asyncio

from django_setup import configure

configure(__name__, "rest_framework", "channels")

from channels.testing import WebsocketCommunicator  # noqa: E402
from djangochannelsrestframework.consumers import AsyncAPIConsumer  # noqa: E402
from djangochannelsrestframework.decorators import action  # noqa: E402

urlpatterns = []


class Consumer(AsyncAPIConsumer):
    @action()
    async def answer_async(self, number, **kwargs):
        return {"number": number}, 200

    @action()
    def answer_sync(self, number, **kwargs):
        return {"number": number}, 200


def test_async_and_sync_actions_answer():
    async def converse():
        communicator = WebsocketCommunicator(Consumer.as_asgi(), "/")
        assert (await communicator.connect())[0]
        answers = []
        for name in ("answer_async", "answer_sync"):
            await communicator.send_json_to({"action": name, "number": 1, "request_id": 1})
            answers.append((await communicator.receive_json_from())["data"])
        await communicator.disconnect()
        return answers

    assert asyncio.run(converse()) == [{"number": 1}] * 2
