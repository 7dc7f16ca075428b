"""Instances: creation, reuse, eviction, deletion, and records as asgiref's dicts."""

import asyncio
import contextlib
import copy
import itertools
import pickle
import re
import time
import types

import pytest

from asgiref.server import StatelessServer

pytestmark = pytest.mark.asyncio


async def echo(scope, receive, send):
    while True:
        await send(await receive())


async def test_each_scope_has_one_instance_that_receives_in_order(make_server):
    server = make_server(echo)
    for message in ("a1", "b1", "a2"):
        server.put(message[0], message)
    sent = [await server.next_sent() for _ in range(3)]
    assert sorted(sent) == [("a", "a1"), ("a", "a2"), ("b", "b1")]
    assert [message for scope_id, message in sent if scope_id == "a"] == ["a1", "a2"]
    assert server.queue("a") is server.queue("a")
    assert list(server.application_instances) == ["b", "a"]
    await server.close()


async def test_the_application_is_called_with_keywords_and_the_first_scope(make_server):
    calls = []

    async def application(**kwargs):
        calls.append(kwargs)

    server = make_server(application)
    server.get_or_create_application_instance("a", {"type": "test", "id": 1})
    server.get_or_create_application_instance("a", {"type": "test", "id": 2})
    await asyncio.sleep(0)
    assert [(sorted(call), call["scope"]["id"]) for call in calls] == [
        (["receive", "scope", "send"], 1)
    ]


async def test_a_double_callable_application_is_served(make_server):
    class Old:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await send((self.scope["type"], await receive()))

    server = make_server(Old)
    server.put("a", "hello")
    assert await server.next_sent() == ("a", ("test", "hello"))


async def test_the_least_recently_used_is_evicted(make_server, settled):
    server = make_server(echo, max_applications=3)
    for scope_id in "abc":
        server.queue(scope_id)
    server.queue("a")
    server.put("d", "hello")
    assert list(server.application_instances) == ["c", "a", "d"]
    assert await server.next_sent() == ("d", "hello")
    await server.close()


async def test_a_message_put_into_a_kept_queue_counts_as_use(make_server):
    server = make_server(echo, max_applications=2)
    kept = server.queue("a")
    server.queue("b")
    kept.put_nowait("hello")
    server.queue("c")
    assert list(server.application_instances) == ["a", "c"]
    assert await server.next_sent() == ("a", "hello")
    await server.close()


async def test_an_assigned_last_used_decides_which_instance_is_evicted_as_in_asgiref(make_server):
    server = make_server(echo, max_applications=3)
    for scope_id in "abc":
        server.queue(scope_id)
    server.application_instances["a"]["last_used"] = time.time() + 5
    server.application_instances["c"]["last_used"] = 1000.0
    server.queue("d")
    assert list(server.application_instances) == ["a", "b", "d"]
    server.queue("e")
    assert list(server.application_instances) == ["a", "d", "e"]
    await server.close()


async def test_never_more_than_max_applications_live(make_server):
    live, most = set(), []

    async def application(scope, receive, send):
        live.add(scope["id"])
        most.append(len(live))
        try:
            await receive()
        finally:
            live.discard(scope["id"])

    server = make_server(application, max_applications=5)
    for number in range(50):
        server.queue(number)
        await asyncio.sleep(0)
        assert len(server.application_instances) <= 5
    assert max(most) <= 6  # a new one may start before the evicted one sees its cancellation
    await server.close()


async def test_an_evicted_instance_is_cancelled_and_may_clean_up(make_server, settled):
    cleaned = []

    async def application(scope, receive, send):
        try:
            await receive()
        finally:
            await asyncio.sleep(0)
            await send("bye")
            cleaned.append(scope["id"])

    server = make_server(application, max_applications=1)
    server.queue("a")
    await asyncio.sleep(0)
    server.queue("b")
    assert await server.next_sent() == ("a", "bye")
    await settled()
    assert cleaned == ["a"]
    assert server.failures == []
    await server.close()


async def test_deleting(make_server):
    server = make_server(echo)
    server.queue("a")
    server.queue("b")
    future = server.application_instances["a"]["future"]
    server.delete_application_instance("a")
    assert list(server.application_instances) == ["b"]
    with pytest.raises(asyncio.CancelledError):
        await future
    with pytest.raises(KeyError):
        server.delete_application_instance("a")
    server.delete_oldest_application_instance()
    assert not server.application_instances
    with pytest.raises(ValueError, match="no application instance"):
        server.delete_oldest_application_instance()
    await server.close()


async def test_eviction_goes_through_the_methods_that_a_subclass_may_override(make_server):
    deleted = []

    class Server(make_server):
        def delete_application_instance(self, scope_id):
            deleted.append(scope_id)
            super().delete_application_instance(scope_id)

    server = Server(echo, max_applications=1)
    server.queue("a")
    server.queue("b")
    assert deleted == ["a"]
    await server.close()


async def test_a_record_behaves_like_asgirefs_dict(make_server):
    server = make_server(echo)
    queue = server.queue("a")
    details = server.application_instances["a"]
    assert sorted(details) == ["future", "input_queue", "last_used", "scope"]
    assert len(details) == 4
    assert details["scope"] == {"type": "test", "id": "a"}
    assert details["input_queue"] is queue
    assert details["future"].done() is False
    assert details["last_used"] == pytest.approx(time.time(), abs=5)
    details["last_used"] = 1000.0
    assert details["last_used"] == 1000.0
    assert "other" not in details
    with pytest.raises(KeyError, match="other"):
        details["other"]
    details["other"] = 1
    assert details["other"] == 1
    assert dict(details)["other"] == 1
    del details["other"]
    assert "other" not in details
    assert "of 'a', live" in repr(details)
    await server.close()


async def test_the_server_works_after_its_table_was_replaced_by_a_dict():
    class Bot(StatelessServer):
        """Like a published bot, it never calls the base class's __init__."""

        def __init__(self, application):
            self.application = application
            self.max_applications = 10
            self.application_instances = {}

        async def handle(self):
            pass

        async def application_send(self, scope, message):
            sent.put_nowait(message)

    sent = asyncio.Queue()
    bot = Bot(echo)
    bot.get_or_create_application_instance("a", {"type": "bot"}).put_nowait("hello")
    assert await sent.get() == "hello"
    assert list(bot.application_instances) == ["a"]
    await bot.arun()


async def test_an_instance_that_a_subclass_made_itself_is_watched(make_server, settled):
    class Own(make_server):
        def get_or_create_application_instance(self, scope_id, scope):
            queue = asyncio.Queue()
            self.application_instances[scope_id] = {
                "input_queue": queue,
                "future": asyncio.ensure_future(self.application(scope, queue.get, None)),
                "scope": scope,
                "last_used": time.time(),
                "mine": 1,
            }
            self.application_instances[scope_id]["last_used"] = time.time()
            return self.application_instances[scope_id]["input_queue"]

    async def application(scope, receive, send):
        raise LookupError(await receive())

    server = Own(application)
    server.put("a", "first")
    server.application_instances["a"]["input_queue"].put_nowait("second")
    assert server.application_instances["a"]["mine"] == 1
    await settled()
    assert server.failures == [("a", "first")]
    assert server.undelivered == [("a", ["second"])]
    assert not server.application_instances


async def test_instances_that_a_subclass_made_itself_are_evicted_by_their_last_used(make_server):
    class Own(make_server):
        """Like asgiref's class, which looks up and inserts dicts."""

        def get_or_create_application_instance(self, scope_id, scope):
            if scope_id in self.application_instances:
                self.application_instances[scope_id]["last_used"] = next(clock)
                return self.application_instances[scope_id]["input_queue"]
            while len(self.application_instances) >= self.max_applications:
                self.delete_oldest_application_instance()
            queue = asyncio.Queue()
            future = asyncio.ensure_future(self.application(scope, queue.get, None))
            self.application_instances[scope_id] = {
                "input_queue": queue,
                "future": future,
                "scope": scope,
                "last_used": next(clock),
            }
            return queue

    clock = itertools.count(time.time())
    server = Own(echo, max_applications=3)
    for scope_id in "abcab":
        server.queue(scope_id)
    server.queue("d")
    assert sorted(server.application_instances) == ["a", "b", "d"]
    server.queue("e")
    assert sorted(server.application_instances) == ["b", "d", "e"]
    await server.close()


async def test_an_entry_may_be_replaced_by_a_changed_copy(make_server):
    server = make_server(echo)
    server.put("a", "hello")
    table = server.application_instances
    table["a"] = {**table["a"], "last_used": 1000.0, "mine": 1}
    assert await server.next_sent() == ("a", "hello")
    assert (table["a"]["last_used"] > 1000.0, table["a"]["mine"]) == (True, 1)
    await server.close()
    assert server.undelivered == []


async def test_asgiref_style_deletion_respects_the_maximum(make_server):
    class Own(make_server):
        def delete_oldest_application_instance(self):
            oldest = min(each["last_used"] for each in self.application_instances.values())
            for scope_id, each in self.application_instances.items():
                if each["last_used"] == oldest:
                    return self.delete_application_instance(scope_id)

    server = Own(echo, max_applications=5)
    for number in range(50):
        server.queue(number)
    [*_, latest] = server.application_instances.values()
    assert len({latest["last_used"] for _ in range(1000)}) == 1
    assert len(server.application_instances) == 5
    await server.close()


async def test_a_server_with_its_own_run_starts_the_checker_itself(settled):
    class Bot(StatelessServer):
        """Like a published long-polling bot: its own loop, its own run(), details["scope"]."""

        def __init__(self, application):
            super().__init__(application)
            self.application_instances = {}
            self.told = []

        def run(self):
            loop = asyncio.new_event_loop()
            self.checker = loop.create_task(self.application_checker())
            loop.run_until_complete(self.handle())
            self.checker.cancel()
            loop.run_until_complete(asyncio.gather(self.checker, return_exceptions=True))
            loop.close()

        async def handle(self):
            for chat, text in [(1, "hello"), (2, "break"), (1, "again")]:
                scope = {"type": "telegram", "chat": chat}
                self.get_or_create_application_instance(chat, scope).put_nowait(text)
                await settled()
            for chat in list(self.application_instances):
                self.delete_application_instance(chat)
            await settled()

        async def application_send(self, scope, message):
            self.told.append((scope["chat"], message))

        async def application_exception(self, exception, application_details):
            self.told.append((application_details["scope"]["chat"], repr(exception)))

    async def application(scope, receive, send):
        while (text := await receive()) != "break":
            await send(text)
        raise LookupError("broken")

    bot = Bot(application)
    await asyncio.to_thread(bot.run)
    assert bot.told == [(1, "hello"), (2, "LookupError('broken')"), (1, "again")]


async def test_an_entry_of_the_table_that_is_not_an_instance_is_rejected(make_server):
    server = make_server(echo)
    with pytest.raises(TypeError, match="instance of scope 'a' must be a mapping with 'input_q"):
        server.application_instances["a"] = {"webcorn": 1}


@pytest.mark.parametrize("application", [None, "module:application"])
async def test_an_application_that_is_not_callable_is_rejected(application):
    with pytest.raises(TypeError, match="needs an ASGI application, not"):
        StatelessServer(application)


async def test_a_limit_below_one_is_rejected():
    with pytest.raises(ValueError, match="max_applications must be at least 1, not 0"):
        StatelessServer(echo, max_applications=0)


def raises_when_called(scope, receive, send):
    raise LookupError(f"no {scope['id']}")


def gives_nothing_to_await(scope, receive, send):
    return 42


raises_when_called._asgi_single_callable = gives_nothing_to_await._asgi_single_callable = True


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (raises_when_called, "no a"),
        (gives_nothing_to_await, "int.*await"),
    ],
)
async def test_an_application_that_fails_before_it_runs_has_failed_like_any_other(
    make_server, settled, bad, reason
):
    server = make_server(bad)
    server.put("a", 1)
    await settled()
    # Once for the message, and once for the message that the instance left.
    assert [scope_id for scope_id, _ in server.failures] == ["a"] * 2
    assert re.search(reason, server.failures[0][1])
    assert server.undelivered == [("a", [1])]
    server.application = echo
    server.put("b", 2)
    assert await server.next_sent() == ("b", 2)
    await server.close()


async def test_an_application_that_is_replaced_by_none_is_named(make_server):
    server = make_server(echo)
    server.application = None
    with pytest.raises(TypeError, match="needs an ASGI application, not None"):
        server.queue("a")
    assert not server.application_instances


async def test_a_method_of_another_object_may_replace_the_application(make_server):
    class Application:
        def __init__(self, name):
            self.name = name

        async def serve(self, scope, receive, send):
            await send(self.name)

    server = make_server(Application("first").serve)
    server.queue("a")
    assert await server.next_sent() == ("a", "first")
    server.application = Application("second").serve
    server.queue("b")
    assert await server.next_sent() == ("b", "second")


async def test_a_scope_need_not_be_a_mapping(make_server):
    async def application(scope, receive, send):
        seen.append(scope)

    seen = []
    server = make_server(application)
    server.get_or_create_application_instance("a", ("127.0.0.1", 80))
    await asyncio.sleep(0)
    assert seen == [("127.0.0.1", 80)]


async def test_an_unhashable_scope_id_is_rejected(make_server):
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        make_server(echo).get_or_create_application_instance(["a"], {"type": "test"})


async def test_missing_hooks_are_named(make_server):
    server = StatelessServer(echo)
    with pytest.raises(NotImplementedError, match=r"StatelessServer must implement handle\(\)"):
        await server.arun()
    with pytest.raises(NotImplementedError, match=r"must implement application_send\(\)"):
        await server.application_send({}, "message")


async def test_a_queue_behaves_like_an_asyncio_queue(make_server, settled):
    async def application(scope, receive, send):
        await asyncio.Event().wait()

    server = make_server(application, queue_size=12)
    queue = server.queue("a")
    assert isinstance(queue, asyncio.Queue)
    assert (queue.maxsize, queue.qsize(), queue.empty(), queue.full()) == (12, 0, True, False)
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()
    for number in range(12):
        await queue.put(number)
    assert (queue.qsize(), queue.empty(), queue.full()) == (12, False, True)
    assert [queue.get_nowait() for _ in range(11)] == list(range(11))
    assert await queue.get() == 11
    getting = asyncio.create_task(queue.get())
    await settled()
    queue.put_nowait("for whoever waits")
    assert await getting == "for whoever waits"
    assert repr(queue) == "<InputQueue of 'a', 0 waiting>"
    for unsupported in (queue.shutdown, queue.task_done):
        with pytest.raises(NotImplementedError, match="delete_application_instance instead"):
            unsupported()
    with pytest.raises(NotImplementedError, match="cannot be shut down or joined"):
        await queue.join()
    await server.close()


async def test_a_cancelled_put_gives_its_slot_to_the_next(make_server, settled):
    async def application(scope, receive, send):
        await asyncio.Event().wait()

    server = make_server(application, queue_size=1)
    queue = server.queue("a")
    queue.put_nowait(0)
    first, second = (asyncio.create_task(queue.put(number)) for number in (1, 2))
    await settled()
    assert queue.get_nowait() == 0  # wakes the first, which is cancelled before it resumes
    first.cancel()
    await settled()
    assert second.done()
    assert queue.get_nowait() == 2
    await server.close()


async def test_a_receive_resumes_only_one_of_the_waiting_puts(make_server, settled):
    @types.coroutine
    def counted(coroutine):
        nonlocal steps
        with contextlib.suppress(StopIteration):
            while True:
                steps += 1
                yield coroutine.send(None)

    async def put(number):
        await counted(queue.put(number))

    received, steps = [], 0

    async def application(scope, receive, send):
        while True:
            received.append(await receive())

    server = make_server(application, queue_size=1)
    queue = server.queue("a")
    await asyncio.gather(*(put(number) for number in range(100)))
    await settled()
    assert received == list(range(100))
    assert steps < 300
    await server.close()


async def test_a_put_that_takes_no_room_lets_the_next_one_continue(make_server, settled):
    async def application(scope, receive, send):
        await asyncio.Event().wait()

    server = make_server(application, queue_size=1)
    queue = server.queue("a")
    queue.put_nowait(0)
    putting = [asyncio.create_task(queue.put(number)) for number in (1, 2, 3)]
    await settled()
    server.application = None  # so that no put can start the next instance
    server.delete_application_instance("a")
    await settled()
    assert [type(each.exception()) for each in putting] == [TypeError] * 3
    await server.close()


@pytest.mark.parametrize("how", ["taken out and put back", "filtered", "assigned to itself"])
async def test_a_scope_is_still_served_after_its_entry_was_put_back(make_server, settled, how):
    server = make_server(echo)
    server.put("a", 0)
    assert await server.next_sent() == ("a", 0)
    table = server.application_instances
    future = table["a"]["future"]
    if how == "taken out and put back":
        table["a"] = table.pop("a")
    elif how == "filtered":
        server.application_instances = {key: value for key, value in table.items() if key == "a"}
    else:
        server.application_instances = table
    for number in (1, 2, 3):
        await settled()
        server.put("a", number)
        assert await server.next_sent() == ("a", number)
    assert server.undelivered == []
    if how != "taken out and put back":
        assert server.application_instances["a"]["future"] is future
    await server.close()


async def test_an_instance_with_a_second_id_does_not_stop_evictions(make_server, settled):
    async def application(scope, receive, send):
        await receive()

    server = make_server(application, max_applications=3)
    server.queue("a")
    server.application_instances["b"] = server.application_instances["a"]
    server.put("a", "the last message")
    await settled()
    for name in "cdefg":
        server.queue(name)
        await settled()
    assert list(server.application_instances) == ["e", "f", "g"]
    await server.close()


async def test_a_class_attribute_for_the_table_does_no_harm(make_server):
    class Server(make_server):
        application_instances = {}  # noqa: RUF012 - as in published subclasses

    server = Server(echo, max_applications=2)
    for name in "abc":
        server.queue(name)
    assert list(server.application_instances) == ["b", "c"]
    server.delete_application_instance("b")
    assert list(server.application_instances) == ["c"]
    await server.close()


async def test_the_table_and_its_records_behave_like_dicts(make_server):
    server = make_server(echo)
    server.queue("a")
    server.queue("b")
    table = server.application_instances
    assert list(table.copy()) == ["a", "b"]
    assert table["a"].copy()["scope"] == {"type": "test", "id": "a"}
    assert "<ApplicationInstance of 'a', live>" in repr(table)
    table.clear()
    assert not table
    await server.close()


@pytest.mark.parametrize("limit", [0, -1])
async def test_an_idle_timeout_that_is_not_above_zero_is_rejected(limit):
    with pytest.raises(ValueError, match="idle_timeout must be more than 0, or None, not"):
        StatelessServer(echo, idle_timeout=limit)


@pytest.mark.parametrize(("duration", "error"), [(-1, ValueError), (None, TypeError)])
async def test_a_shutdown_timeout_that_is_not_a_duration_is_rejected_before_the_shutdown(
    duration, error
):
    with pytest.raises(error):
        StatelessServer(echo, shutdown_timeout=duration)


class Failed(BaseException):
    """A BaseException, like the one that ``pytest.fail()`` raises."""


async def test_an_overridden_deletion_that_raises_loses_no_message(make_server, settled):
    class Server(make_server):
        def delete_oldest_application_instance(self):
            raise Failed

    async def application(scope, receive, send):
        if scope["id"] == "a":
            await go.wait()
            raise LookupError
        await asyncio.Event().wait()

    go = asyncio.Event()
    server = Server(application, max_applications=2)
    running = asyncio.create_task(server.arun())
    await settled()
    server.queue("b")
    server.put("a", 1)
    await settled()
    server.max_applications = 1
    go.set()
    with pytest.raises(Failed):
        await running
    assert server.undelivered == [("a", [1])]


async def test_a_subclass_may_have_the_name_of_its_base_class(settled):
    def make():
        class StatelessServer(base):
            def __init__(self, application):
                super().__init__(application)
                self.__instances = {}

            async def handle(self):
                self.get_or_create_application_instance("a", {"type": "test"}).put_nowait(1)
                await settled()

            async def application_send(self, scope, message):
                sent.append(message)

        return StatelessServer

    base, sent = StatelessServer, []
    await make()(echo).arun()
    assert sent == [1]


async def test_a_table_in_a_mixin_does_not_stop_evictions(settled):
    class Mixin:
        application_instances = {}  # noqa: RUF012 - as asgiref's class has it per object

    class Server(Mixin, StatelessServer):
        async def application_undelivered(self, messages, application_details):
            undelivered.append((application_details.scope_id, messages))

    async def application(scope, receive, send):
        received.append(await receive())
        await receive()

    received, undelivered = [], []
    server = Server(application, max_applications=2)
    for number in range(4):
        server.get_or_create_application_instance(number, {"type": "test"}).put_nowait(number)
        await settled()
    assert received == [0, 1, 2, 3]
    assert undelivered == []


@pytest.mark.parametrize("look_up", [False, True])
async def test_a_server_sends_to_every_instance_while_it_iterates_over_them(make_server, look_up):
    server = make_server(echo)
    for name in "abc":
        server.queue(name)
    for name, details in server.application_instances.items():
        queue = server.queue(name) if look_up else details["input_queue"]
        queue.put_nowait("all")
    assert sorted([await server.next_sent() for _ in "abc"]) == [(name, "all") for name in "abc"]
    await server.close()


async def test_instances_may_be_deleted_during_an_iteration(make_server):
    server = make_server(echo)
    for name in "abc":
        server.queue(name)
    seen = []
    for name in server.application_instances:
        seen.append(name)
        if name == "a":
            server.delete_application_instance("b")
    assert seen == ["a", "c"]
    await server.close()


class Picklable(StatelessServer):
    """A server that multiprocessing can pass to another process."""

    async def handle(self):
        self.get_or_create_application_instance("a", {"type": "test"}).put_nowait(1)

    async def application_send(self, scope, message):
        self.sent = message


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda server: pickle.loads(pickle.dumps(server))]
)
async def test_a_copied_or_pickled_server_runs_with_the_same_options(duplicate):
    original = Picklable(echo, 7, queue_size=3)
    server = duplicate(original)
    await server.arun()
    assert (server.max_applications, server.queue_size, server.sent) == (7, 3, 1)
    assert not hasattr(original, "sent")
