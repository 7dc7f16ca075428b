"""Random histories of a server: no message is lost or duplicated, no task is left, it ends in time.

Each rule takes one step; `turns` sets how far the event loop runs before the next step, so that
steps meet in every intermediate state. An instance takes the number of messages in its scope's plan
and then ends as planned, unless a rule ends it earlier. Each history has a server with or without a
message source, a lifespan and the option to reconnect.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asgiref.server import MessageSource, Reconnect, StatelessServer

pytestmark = pytest.mark.timeout(300)  # hooks that block take seconds

MOST = 3
#: Seconds to finish and to clean up twice (with the lifespan), and a margin for a slow machine.
PROMISED = 0.02 + 2 * (0.05 + 0.1) + 10
#: With the real limits, each hook that blocks would cost seconds.
SHORT = {"_CLEANUP_SECONDS": 0.05, "_ATTEMPT_SECONDS": 0.005}
SCOPES = "abcde"
scopes = st.sampled_from(SCOPES)
turns = st.integers(0, 4)


class Failure(Exception):
    """The exception that this test's applications raise."""


@dataclass(frozen=True)
class Plan:
    takes: int = 100
    then: str = "return"
    farewell: bool = False


plans = st.builds(
    Plan,
    takes=st.sampled_from([0, 1, 2, 5, 100]),
    then=st.sampled_from(["return", "raise"]),
    farewell=st.booleans(),
)


@dataclass
class History:
    """The events that the applications and the hooks saw."""

    live: Counter[str] = field(default_factory=Counter)
    most_live: int = 0

    sent: list[int] = field(default_factory=list)
    received: Counter[int] = field(default_factory=Counter)
    undelivered: Counter[int] = field(default_factory=Counter)
    last_received: dict[str, int] = field(default_factory=dict)
    raised: Counter[int] = field(default_factory=Counter)
    reported: Counter[int] = field(default_factory=Counter)
    acknowledged: Counter[int] = field(default_factory=Counter)
    unacknowledged: Counter[int] = field(default_factory=Counter)
    lifespan: list[str] = field(default_factory=list)


class Source(MessageSource):
    """Takes messages from the input queue, and records what becomes of them."""

    def __init__(self, history: History) -> None:
        self.history = history

    async def acknowledge(self, instance: Any, message: int) -> None:
        self.history.acknowledged[message] += 1

    async def instance_ended(self, instance: Any, unacknowledged: list[int]) -> None:
        assert instance.future.done()
        self.history.unacknowledged.update(unacknowledged)


class Server(StatelessServer):
    def __init__(self, sourced: bool, lifespan: bool, reconnects: bool) -> None:
        self.history = History()
        super().__init__(
            self.application,
            max_applications=MOST,
            shutdown_timeout=0.02,
            lifespan=lifespan,
            reconnect=Reconnect(0, 0) if reconnects else None,
            source=Source(self.history) if sourced else None,
        )
        self.sourced, self.reconnects = sourced, reconnects
        self.handles = 0
        self.connection_lost = asyncio.Event()
        self.misbehaviour = "none"
        self.plans = {scope: Plan() for scope in SCOPES}
        self.ends: dict[str, asyncio.Future[str]] = {}
        self.finished = asyncio.Event()

    async def handle(self) -> None:
        self.handles += 1
        self.connection_lost.clear()
        events = (self.finished, self.connection_lost)
        waiting = [asyncio.create_task(each.wait()) for each in events]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self.connection_lost.is_set():
            raise ConnectionError

    async def serve_lifespan(self, receive: Any, send: Any) -> None:
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            self.history.lifespan.append(step)
            if step == "shutdown":  # the last messages come when no instance can start
                scope = {"type": "test", "id": "a"}
                self.put_next(self.get_or_create_application_instance("a", scope))
            await send({"type": f"lifespan.{step}.complete"})

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.serve_lifespan(receive, send)
            return
        live = self.history.live
        live[scope["id"]] += 1
        self.history.most_live = max(self.history.most_live, live[scope["id"]])
        try:
            then = await self.serve(scope, receive)
        finally:
            live[scope["id"]] -= 1
            await asyncio.sleep(0)
            if self.plans[scope["id"]].farewell:
                await send(scope["id"])
        self.do(then)  # last, because a cancellation of the farewell would replace the failure

    async def application_send(self, scope: Any, message: str) -> None:
        """Put a farewell into the queue of the next scope."""
        other = SCOPES[(SCOPES.index(message) + 1) % len(SCOPES)]
        scope = {"type": "test", "id": other}
        self.put_next(self.get_or_create_application_instance(other, scope))

    def put_next(self, queue: "asyncio.Queue[Any]") -> None:
        number = len(self.history.sent)
        self.history.sent.append(number)
        queue.put_nowait(number)

    async def serve(self, scope: Any, receive: Any) -> str:
        plan = self.plans[scope["id"]]
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ends[scope["id"]] = end
        taking = asyncio.create_task(self.take(plan.takes, scope["id"], receive))
        try:
            await asyncio.wait({end, taking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taking.cancel()
            await asyncio.wait({taking})
        return end.result() if end.done() else plan.then

    async def take(self, count: int, scope_id: str, receive: Any) -> None:
        for _ in range(count):
            number = await receive()
            self.history.received[number] += 1
            assert number > self.history.last_received.get(scope_id, -1), "out of order"
            self.history.last_received[scope_id] = number

    def do(self, what: str) -> None:
        if what == "raise":
            number = self.history.raised.total()
            self.history.raised[number] += 1
            raise Failure(number)

    async def application_exception(self, exception: BaseException, details: Any) -> None:
        assert isinstance(exception, Failure), repr(exception)
        self.history.reported[exception.args[0]] += 1
        await self.misbehave(details)

    async def application_undelivered(self, messages: list[int], details: Any) -> None:
        self.history.undelivered.update(messages)
        await self.misbehave(details)

    async def misbehave(self, details: Any) -> None:
        match self.misbehaviour:
            case "raises":
                raise ZeroDivisionError("in a hook")
            case "is cancelled":
                raise asyncio.CancelledError
            case "blocks":
                await asyncio.Event().wait()
            case "deletes":
                for scope_id in list(self.application_instances):
                    self.delete_application_instance(scope_id)
            case _:
                await asyncio.sleep(0)


def has_begun(machine: "ServerMachine") -> bool:
    """Whether a message was sent: before that, there is no instance to end."""
    return bool(machine.server.history.sent)


class ServerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.short = mock.patch.multiple("asgiref.server._running", **SHORT)
        self.short.start()
        self.runner = asyncio.Runner()
        self.kept: dict[str, asyncio.Queue[Any]] = {}

    def go_on(self, count: int) -> None:
        async def wait() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self.runner.run(wait())

    def do(self, function: Any, *args: Any) -> Any:
        async def call() -> Any:
            return function(*args)

        return self.runner.run(call())

    @initialize(sourced=st.booleans(), lifespan=st.booleans(), reconnects=st.booleans())
    def begin(self, sourced: bool, lifespan: bool, reconnects: bool) -> None:
        self.server = self.do(Server, sourced, lifespan, reconnects)
        self.start()

    def start(self) -> None:
        self.server.finished.clear()
        self.running = self.do(lambda: asyncio.create_task(self.server.arun()))
        self.go_on(3)

    def look_up(self, scope_id: str) -> "asyncio.Queue[Any]":
        scope = {"type": "test", "id": scope_id}
        return self.server.get_or_create_application_instance(scope_id, scope)

    @rule(scope=scopes, turns=turns)
    def create(self, scope: str, turns: int) -> None:
        self.kept[scope] = self.do(self.look_up, scope)
        self.go_on(turns)

    @rule(scope=scopes, count=st.integers(1, 4), plan=plans, keep=st.booleans(), turns=turns)
    def message(self, scope: str, count: int, plan: Plan, keep: bool, turns: int) -> None:
        self.server.plans[scope] = plan

        def put() -> None:
            for _ in range(count):
                queue = self.kept.get(scope) if keep else None
                self.server.put_next(queue or self.look_up(scope))

        self.do(put)
        self.go_on(turns)

    @precondition(has_begun)
    @rule(scope=scopes)
    def forget_a_kept_queue(self, scope: str) -> None:
        self.kept.pop(scope, None)

    @precondition(has_begun)
    @rule(scope=scopes, how=st.sampled_from(["return", "raise", "cancel"]), turns=turns)
    def end(self, scope: str, how: str, turns: int) -> None:
        """End an instance with a return, a failure or a cancellation, regardless of its plan."""

        def end() -> None:
            details = self.server.application_instances.get(scope)
            if details is None:
                return
            if how == "cancel":
                details["future"].cancel()
            elif scope in self.server.ends and not self.server.ends[scope].done():
                self.server.ends[scope].set_result(how)

        self.do(end)
        self.go_on(turns)

    @precondition(has_begun)
    @rule(turns=turns)
    def evict(self, turns: int) -> None:
        def evict_oldest() -> None:
            if self.server.application_instances:
                oldest = next(iter(self.server.application_instances))
                self.server.delete_oldest_application_instance()
                assert oldest not in self.server.application_instances

        self.do(evict_oldest)
        self.go_on(turns)

    @precondition(lambda self: self.server.reconnects)
    @rule(turns=turns)
    def lose_the_connection(self, turns: int) -> None:
        before = self.server.handles
        self.do(self.server.connection_lost.set)
        self.go_on(8 + turns)
        assert self.server.handles > before

    @precondition(has_begun)
    @rule(how=st.sampled_from(["none", "raises", "is cancelled", "blocks", "deletes"]))
    def hooks_misbehave(self, how: str) -> None:
        self.server.misbehaviour = how

    @precondition(has_begun)
    @rule(
        cancellations=st.lists(st.integers(0, 6), max_size=3),
        natural=st.booleans(),
        late=st.lists(st.tuples(scopes, st.integers(0, 5)), max_size=4),
    )
    def shut_down_and_start_again(
        self, cancellations: list[int], natural: bool, late: list[tuple[str, int]]
    ) -> None:
        if natural or not cancellations:
            self.do(self.finish)
        for turns in cancellations:
            self.go_on(turns)
            self.do(self.running.cancel)
        for scope, turns in late:
            self.do(lambda name=scope: self.server.put_next(self.look_up(name)))
            self.go_on(turns)
        self.runner.run(self.ended())
        self.check_the_end()
        self.start()

    def finish(self) -> None:
        """End the server by ending ``handle``, unless that would only run it again."""
        self.server.finished.set()
        if self.server.reconnects:
            self.running.cancel()

    async def ended(self) -> None:
        await asyncio.wait({self.running}, timeout=PROMISED)
        assert self.running.done(), "arun does not end in time"
        for _ in range(5):  # a message that arrived after the end is reported in the next turns
            await asyncio.sleep(0)
        hooks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hooks:  # only hooks for messages that arrived after the end; they may block
            assert "HookCalls" in repr(task)
            task.cancel()
        if hooks:
            await asyncio.wait(hooks)
        assert self.running.cancelled() or self.running.exception() is None
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def check_the_end(self) -> None:
        history = self.server.history
        assert not self.server.application_instances
        assert history.received + history.undelivered == Counter(history.sent)
        assert history.reported == history.raised
        assert history.most_live <= 1
        settled = history.acknowledged + history.unacknowledged
        assert settled == (history.received if self.server.sourced else Counter())

    @invariant()
    def no_more_live_than_allowed(self) -> None:
        assert len(self.server.application_instances) <= MOST

    @invariant()
    def nothing_is_received_or_reported_twice(self) -> None:
        history = self.server.history
        told = history.received + history.undelivered
        assert not told or max(told.values()) == 1
        assert not history.reported or max(history.reported.values()) == 1

    def teardown(self) -> None:
        try:
            if hasattr(self, "server"):
                self.do(self.finish)
                self.runner.run(self.ended())
                self.check_the_end()
        finally:
            self.runner.close()
            self.short.stop()


TestServerMachine = ServerMachine.TestCase
TestServerMachine.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
