"""In any order of events, every message is received once or reported undelivered once."""

import asyncio
import random
from collections import Counter

import pytest

pytestmark = pytest.mark.asyncio


class Chaos:
    """Applications that take a few messages and then return, fail, or hang until cancelled."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.received = Counter()
        self.last = {}

    async def application(self, scope, receive, send):
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 10])):
            number = await receive()
            self.received[number] += 1
            assert number > self.last.get(scope["id"], -1), "out of order"
            self.last[scope["id"]] = number
            if self.random.random() < 0.3:
                await asyncio.sleep(0)
        fate = self.random.random()
        if fate < 0.3:
            raise LookupError("an application's failure")
        if fate < 0.4:
            await asyncio.Event().wait()


async def drive(server, chaos, put):
    kept = {}
    for number in range(200):
        scope_id = chaos.random.choice("abcd")
        action = chaos.random.random()
        if action < 0.7:
            put(server, scope_id, number, kept if chaos.random.random() < 0.5 else {})
        elif action < 0.8 and scope_id in server.application_instances:
            server.delete_application_instance(scope_id)
        elif action < 0.85 and scope_id in server.application_instances:
            server.application_instances[scope_id]["future"].cancel()
        else:
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(40))
async def test_every_message_is_received_or_undelivered_exactly_once(
    make_server, no_task_left, seed
):
    def put(server, scope_id, number, kept):
        queue = kept.get(scope_id) or server.queue(scope_id)
        kept[scope_id] = queue
        queue.put_nowait(number)
        sent.append(number)

    chaos, sent = Chaos(seed), []
    server = make_server(chaos.application, max_applications=3, shutdown_timeout=0)
    running = asyncio.create_task(server.arun())
    await drive(server, chaos, put)
    assert len(server.application_instances) <= 3
    server.finished.set()
    await running
    outcome = chaos.received
    for _, messages in server.undelivered:
        outcome.update(messages)
    assert outcome == Counter(sent)
    assert {reason for _, reason in server.failures} <= {"an application's failure"}
    no_task_left()
