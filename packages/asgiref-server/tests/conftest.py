"""A server for tests, which records the calls to its hooks."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from asgiref.server import StatelessServer


class Recorder(StatelessServer):
    """A server whose ``handle`` only waits for `finished`; the test drives it from outside."""

    def __init__(self, application, *args, **kwargs):
        super().__init__(application, *args, **kwargs)
        self.sent = asyncio.Queue()
        self.failures = []
        self.undelivered = []
        self.finished = asyncio.Event()

    async def handle(self):
        await self.finished.wait()

    async def application_send(self, scope, message):
        self.sent.put_nowait((scope["id"], message))

    async def application_exception(self, exception, application_details):
        self.failures.append((application_details["scope"]["id"], str(exception)))

    async def application_undelivered(self, messages, application_details):
        self.undelivered.append((application_details.scope["id"], messages))

    async def close(self):
        """Run the server until it ends, which cancels the instances that the test started."""
        self.finished.set()
        await self.arun()

    def queue(self, scope_id):
        return self.get_or_create_application_instance(scope_id, {"type": "test", "id": scope_id})

    def put(self, scope_id, message):
        self.queue(scope_id).put_nowait(message)

    async def next_sent(self):
        return await asyncio.wait_for(self.sent.get(), 10)


async def settled():
    """Let all tasks and callbacks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def fast_clock(monkeypatch):
    """Return a function after whose call timers take no time."""

    def start():
        loop = asyncio.get_running_loop()
        select, skipped = loop._selector.select, 0.0

        def skip(timeout):
            nonlocal skipped
            events = select(0 if timeout else timeout)
            if timeout and not events:
                skipped += timeout
            return events

        clock = SimpleNamespace(
            monotonic=lambda: time.monotonic() + skipped, time=lambda: time.time() + skipped
        )
        monkeypatch.setattr(loop._selector, "select", skip)
        monkeypatch.setattr(loop, "time", clock.monotonic)
        for module in ("_instance", "_table", "_running"):
            monkeypatch.setattr(f"asgiref.server.{module}.time", clock)

    return start


@pytest.fixture
def make_server():
    return Recorder


@pytest.fixture(name="settled")
def settled_fixture():
    return settled


@pytest.fixture
def no_task_left():
    """Return a check for the end of a test: no task but the test's own is left."""

    def check():
        assert asyncio.all_tasks() == {asyncio.current_task()}

    return check
