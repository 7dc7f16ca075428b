"""Hooks that misbehave, and scope ids and exceptions with methods that raise."""

import asyncio
import contextlib
import logging

import pytest

from asgiref.server import StatelessServer

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]


class Failed(BaseException):
    """A BaseException, like the one that ``pytest.fail()`` raises."""


class Server(StatelessServer):
    """A server whose ``application_exception`` calls `hook` for a scope's first failure."""

    def __init__(self, application, hook=None):
        super().__init__(application, shutdown_timeout=0.05)
        self.hook = hook
        self.calls = []
        self.finished = asyncio.Event()

    async def handle(self):
        await self.finished.wait()

    async def application_send(self, scope, message):
        pass

    async def application_exception(self, exception, details):
        self.calls.append(str(exception))
        if str(exception) == "first" and self.hook is not None:
            await self.hook(self)

    def put(self, scope_id, message):
        scope = {"type": "test", "id": 1}
        self.get_or_create_application_instance(scope_id, scope).put_nowait(message)


async def failing(scope, receive, send):
    raise LookupError(await receive())


@pytest.fixture
def run(settled):
    """Run a server that gets three messages for one scope, whose application fails each time."""

    async def run(server, scope_id="a"):
        async def put_messages():
            await settled()
            for message in ("first", "second", "third"):
                server.put(scope_id, message)
                await settled()
            server.finished.set()

        putting = asyncio.create_task(put_messages())
        try:
            await server.arun()  # in this task: SystemExit in another would end the event loop
        finally:
            await putting
            await settled()

    return run


async def raise_exception(server):
    raise ZeroDivisionError


async def be_cancelled(server):
    raise asyncio.CancelledError


async def cancel_itself(server):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def put_again(server):
    server.put("a", "again")


async def delete_its_scope(server):
    server.put("a", "again")
    server.delete_application_instance("a")


@pytest.mark.parametrize(
    "hook", [raise_exception, be_cancelled, cancel_itself, put_again, delete_its_scope]
)
async def test_a_hook_that_misbehaves_does_not_silence_its_scope(hook, run, no_task_left):
    server = Server(failing, hook)
    await run(server)
    assert [call for call in server.calls if call != "again"] == ["first", "second", "third"]
    no_task_left()


@pytest.mark.parametrize("kind", [Failed, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_a_hook_that_wants_to_end_the_process_ends_the_server(kind, run, no_task_left):
    async def hook(server):
        raise kind

    server = Server(failing, hook)
    with pytest.raises(kind):
        await run(server)
    assert server.calls[0] == "first"
    no_task_left()


async def test_a_hook_that_blocks_is_cancelled_and_does_not_silence_its_scope(fast_clock, caplog):
    fast_clock()

    async def hook(server):
        await asyncio.Event().wait()

    server = Server(failing, hook)
    running = asyncio.create_task(server.arun())
    for message in ("first", "second"):
        server.put("a", message)
        await asyncio.sleep(6)
    assert server.calls == ["first", "second"]
    assert "Server.application_exception() for scope 'a' took too long, and was" in caplog.text
    server.finished.set()
    await running


async def test_hooks_that_block_do_not_pile_up(fast_clock, no_task_left):
    fast_clock()

    class Blocking(Server):
        async def application_exception(self, exception, details):
            self.calls.append(str(exception))
            await asyncio.Event().wait()

    server = Blocking(failing)
    running = asyncio.create_task(server.arun())
    most = 0
    for number in range(1000):
        server.put("a", str(number))
        await asyncio.sleep(1)
        most = max(most, len(asyncio.all_tasks()))
    assert most < 10
    assert server.calls == [str(number) for number in range(len(server.calls))]
    assert len(server.calls) > 50
    server.finished.set()
    await running
    no_task_left()


class Unprintable:
    def __repr__(self):
        raise LookupError("no repr")


class Incomparable:
    """A scope id whose hash collides with every other."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise LookupError("no eq")


class Fickle:
    """A scope id whose hash raises once it is in use."""

    def __init__(self):
        self.works = True

    def __hash__(self):
        if not self.works:
            raise LookupError("no hash")
        return 1


async def test_a_scope_id_whose_repr_raises_is_served_and_logged(run, caplog, no_task_left):
    server = Server(failing, raise_exception)
    await run(server, Unprintable())
    assert server.calls == ["first", "second", "third"]
    assert "Unprintable at" in caplog.text
    no_task_left()


async def test_scope_ids_that_cannot_be_compared_do_not_affect_the_others(settled, no_task_left):
    server = Server(failing)
    running = asyncio.create_task(server.arun())
    await settled()
    one = Incomparable()
    server.put(one, "one")
    with pytest.raises(LookupError, match="no eq"):
        server.put(Incomparable(), "two")
    server.put("other", "other")
    await settled()
    assert sorted(server.calls) == ["one", "other"]
    assert not server.application_instances
    server.finished.set()
    await running
    no_task_left()


@pytest.mark.parametrize("end", ["fails", "is cancelled", "shutdown"])
async def test_a_scope_still_ends_if_hashing_its_id_starts_to_raise(end, settled, no_task_left):
    async def application(scope, receive, send):
        while (message := await receive()) != "fail":
            seen.append(message)
        raise LookupError("failed")

    seen = []
    server = Server(application)
    running = asyncio.create_task(server.arun())
    await settled()
    odd = Fickle()
    server.put(odd, "one")
    server.put("other", "two")
    await settled()
    queue = server.application_instances[odd].input_queue
    record = server.application_instances[odd]
    odd.works = False
    if end == "fails":
        server.get_or_create_application_instance("other", {"type": "test", "id": 1})
        with pytest.raises(LookupError):
            queue.put_nowait("three")
        assert queue.empty()
    elif end == "is cancelled":
        record.future.cancel()
    await settled()
    server.put("other", "four")
    await settled()
    assert [message for message in seen if message in ("two", "four")] == ["two", "four"]
    server.finished.set()
    await asyncio.wait_for(running, 10)
    assert record.future.done()
    no_task_left()


class Mute(Exception):
    def __str__(self):
        raise ZeroDivisionError("no str")

    __repr__ = __str__


@pytest.mark.parametrize(
    "kind", [LookupError, Mute, Failed, SystemExit, GeneratorExit, StopIteration, TimeoutError]
)
async def test_an_application_may_fail_with_any_exception(kind, settled, caplog, no_task_left):
    class Default(StatelessServer):
        async def handle(self):
            await finished.wait()

    async def application(scope, receive, send):
        if scope["id"] == "bad":
            raise kind
        while True:
            seen.append(await receive())

    seen, finished = [], asyncio.Event()
    server = Default(application)
    running = asyncio.create_task(server.arun())
    await settled()
    for name in ("bad", "good"):
        scope = {"type": "test", "id": name}
        server.get_or_create_application_instance(name, scope).put_nowait(name)
        await settled()
    assert seen == ["good"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "Exception inside application for scope 'bad'" in caplog.text
    finished.set()
    await running
    no_task_left()


async def test_a_subclass_may_use_any_attribute_of_asgirefs_class_that_was_free(settled):
    names = [
        "_pool",
        "_hooks",
        "_main",
        "_home",
        "_run",
        "_instances",
        "_table",
        "_queue",
        "_state",
        "_settings",
        "_private",
        "_core",
        "_takes_sigint",
    ]

    class Busy(StatelessServer):
        idle_timeout = 0.0001
        lifespan = "a method, in truth"

        def __init__(self, application):
            super().__init__(application)
            for name in names:
                setattr(self, name, name)
            self.queue_size = 1
            self.shutdown_timeout = "long"

        async def handle(self):
            for number in range(5):
                self.get_or_create_application_instance("a", {"type": "test"}).put_nowait(number)
            await settled()

        async def application_send(self, scope, message):
            sent.append(message)

    async def echo(scope, receive, send):
        while True:
            await send(await receive())

    sent = []
    server = Busy(echo)
    await server.arun()
    assert sent == [0, 1, 2, 3, 4]
    assert [getattr(server, name) for name in names] == names


async def test_the_options_can_be_read():
    server = StatelessServer(failing, idle_timeout=5, queue_size=2)
    assert (server.idle_timeout, server.queue_size) == (5, 2)
    assert (server.shutdown_timeout, server.lifespan) == (1.0, False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["__eq__", "__hash__"])
async def test_a_scope_id_that_raises_at_any_step_leaves_no_task(method, settled, no_task_left):
    class Fragile(str):
        calls, failing = 0, 0

        @classmethod
        def _call(cls, name, *args):
            if name == method:
                cls.calls += 1
                if cls.calls == cls.failing:
                    raise ValueError("at this step")
            return getattr(str, name)(*args)

        def __eq__(self, other):
            return self._call("__eq__", self, other)

        def __hash__(self):
            return self._call("__hash__", self)

    async def application(scope, receive, send):
        await receive()
        await asyncio.Event().wait()

    while Fragile.calls >= Fragile.failing:
        Fragile.calls, Fragile.failing = 0, Fragile.failing + 1
        server = Server(application)
        for message in range(4):
            with contextlib.suppress(ValueError):
                server.put(Fragile(message % 2), message)
            await settled()
        server.finished.set()
        await server.arun()
        no_task_left()
