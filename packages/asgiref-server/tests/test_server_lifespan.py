"""lifespan=True: the application learns when the server starts and when it shuts down."""

import asyncio
import contextlib
import logging

import pytest

pytestmark = pytest.mark.asyncio


class Application:
    """An application that records events and answers the lifespan as configured."""

    def __init__(self, startup="complete", shutdown="complete"):
        self.events = []
        self.startup, self.shutdown = startup, shutdown

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
        else:
            self.events.append(f"scope {scope['id']}")
            await send((await receive(), scope.get("state")))
            await receive()

    async def lifespan(self, scope, receive, send):
        self.scope = scope
        self.events.append((await receive())["type"])
        scope["state"].update(name="shared", connections=[])
        await send({"type": f"lifespan.startup.{self.startup}", "message": "no database"})
        self.events.append((await receive())["type"])
        await send({"type": f"lifespan.shutdown.{self.shutdown}", "message": "still open"})


@pytest.fixture
def make_recorder(make_server):
    class Server(make_server):
        async def handle(self):
            self.application.events.append("handle")
            await self.finished.wait()

    return lambda application, **kwargs: Server(application, lifespan=True, **kwargs)


async def test_startup_comes_before_handle_and_shutdown_after_all_scopes(
    make_recorder, no_task_left, settled
):
    application = Application()
    server = make_recorder(application)
    running = asyncio.create_task(server.arun())
    await settled()
    server.put("a", "hello")
    await server.next_sent()
    server.finished.set()
    await running
    assert application.events == [
        "lifespan.startup",
        "handle",
        "scope a",
        "lifespan.shutdown",
    ]
    assert application.scope["type"] == "lifespan"
    assert application.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    no_task_left()


async def test_without_the_option_the_application_sees_no_lifespan(make_server):
    application = Application()
    server = make_server(application)
    server.finished.set()
    await server.arun()
    assert application.events == []


async def test_each_scope_gets_a_shallow_copy_of_the_state(make_recorder, settled):
    application = Application()
    server = make_recorder(application)
    running = asyncio.create_task(server.arun())
    await settled()
    server.put("a", 1)
    server.put("b", 2)
    states = [(await server.next_sent())[1][1] for _ in range(2)]
    for state in states:
        assert state == {"name": "shared", "connections": []}
        assert state is not application.scope["state"]
        assert state["connections"] is application.scope["state"]["connections"]
    assert states[0] is not states[1]
    assert server.application_instances["a"]["scope"]["state"] is states[0]
    server.finished.set()
    await running


async def test_the_servers_own_scope_is_not_changed_and_its_own_state_is_kept(
    make_recorder, settled
):
    server = make_recorder(Application())
    running = asyncio.create_task(server.arun())
    await settled()
    plain, own = {"type": "test", "id": "a"}, {"type": "test", "id": "b", "state": {"own": 1}}
    server.get_or_create_application_instance("a", plain).put_nowait(1)
    server.get_or_create_application_instance("b", own).put_nowait(2)
    states = dict([(await server.next_sent())[1] for _ in range(2)])
    assert states[2] == {"own": 1}
    assert plain == {"type": "test", "id": "a"}
    server.finished.set()
    await running


async def test_the_next_instance_of_a_scope_gets_a_copy_of_its_own(make_recorder, settled):
    class Once(Application):
        async def __call__(self, scope, receive, send):
            if scope["type"] == "lifespan":
                return await self.lifespan(scope, receive, send)
            await receive()
            await send(dict(scope["state"]))
            scope["state"]["mine"] = 1

    server = make_recorder(Once())
    running = asyncio.create_task(server.arun())
    await settled()
    server.put("a", 1)
    server.put("a", 2)
    for _ in range(2):
        assert await server.next_sent() == ("a", {"name": "shared", "connections": []})
    server.finished.set()
    await running


async def test_a_failed_startup_is_an_error_and_handle_never_starts(make_recorder, no_task_left):
    application = Application(startup="failed")
    with pytest.raises(RuntimeError, match="The application's startup failed: no database"):
        await make_recorder(application).arun()
    assert application.events == ["lifespan.startup"]
    no_task_left()


async def test_a_startup_that_fails_and_raises_as_well_is_reported_once(
    make_recorder, caplog, no_task_left
):
    class Loud(Application):
        async def lifespan(self, scope, receive, send):
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise ConnectionError("no database")

    with pytest.raises(RuntimeError, match="startup failed: no database"):
        await make_recorder(Loud()).arun()
    assert caplog.records == []
    no_task_left()


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_an_application_without_a_lifespan_is_served_anyway(
    make_recorder, caplog, how, no_task_left
):
    class Unaware(Application):
        async def lifespan(self, scope, receive, send):
            if how == "raises":
                raise ValueError(f"unknown scope {scope['type']}")

    caplog.set_level(logging.INFO)
    application = Unaware()
    server = make_recorder(application)
    running = asyncio.create_task(server.arun())
    server.put("a", "hello")
    assert await server.next_sent() == ("a", ("hello", None))
    server.finished.set()
    await running
    assert application.events == ["scope a", "handle"]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert ("unknown scope lifespan" in caplog.text) is (how == "raises")
    assert server.failures == []
    no_task_left()


async def test_a_double_callable_has_a_lifespan_too(make_server, no_task_left):
    class Old:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            while True:
                event = (await receive())["type"]
                events.append(event)
                await send({"type": f"{event}.complete"})
                if event == "lifespan.shutdown":
                    return

    events = []
    server = make_server(Old, lifespan=True)
    server.finished.set()
    await server.arun()
    assert events == ["lifespan.startup", "lifespan.shutdown"]
    no_task_left()


async def test_the_application_learns_of_the_shutdown_even_if_handle_raises(
    make_server, no_task_left
):
    class Server(make_server):
        async def handle(self):
            raise ConnectionError("lost")

    application = Application()
    with pytest.raises(ConnectionError, match="lost"):
        await Server(application, lifespan=True).arun()
    assert application.events == ["lifespan.startup", "lifespan.shutdown"]
    no_task_left()


async def test_a_cancellation_ends_a_startup_that_never_finishes(
    make_recorder, no_task_left, settled
):
    class Slow(Application):
        async def lifespan(self, scope, receive, send):
            await asyncio.Event().wait()

    application = Slow()
    running = asyncio.create_task(make_recorder(application).arun())
    await settled()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert application.events == []
    no_task_left()


async def test_a_shutdown_that_is_not_answered_is_cut_off(make_recorder, caplog, no_task_left):
    class Silent(Application):
        async def lifespan(self, scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            try:
                await asyncio.Event().wait()
            finally:
                self.events.append("cancelled")

    application = Silent()
    server = make_recorder(application, shutdown_timeout=0.01)
    server.finished.set()
    await server.arun()
    assert application.events == ["handle", "cancelled"]
    assert "did not answer lifespan.shutdown in 0.01 s" in caplog.text
    no_task_left()


async def test_a_failed_shutdown_is_logged(make_recorder, caplog, no_task_left):
    server = make_recorder(Application(shutdown="failed"))
    server.finished.set()
    await server.arun()
    assert "The application's shutdown failed: still open" in caplog.text
    no_task_left()


async def test_a_lifespan_that_breaks_later_is_logged_and_the_server_continues(
    make_recorder, caplog, no_task_left, settled
):
    class Breaks(Application):
        async def lifespan(self, scope, receive, send):
            await send({"type": "lifespan.startup.complete"})
            raise LookupError("later")

    server = make_recorder(Breaks())
    running = asyncio.create_task(server.arun())
    await settled()
    assert "Exception in the application's lifespan: later" in caplog.text
    server.put("a", "hello")
    assert (await server.next_sent())[1][0] == "hello"
    server.finished.set()
    await running
    no_task_left()


async def test_an_answer_at_the_wrong_time_is_an_application_error(
    make_recorder, caplog, no_task_left
):
    class Hasty(Application):
        async def lifespan(self, scope, receive, send):
            await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})

    server = make_recorder(Hasty())
    server.finished.set()
    await server.arun()
    assert "sent 'lifespan.shutdown.complete' while its lifespan was started" in caplog.text
    no_task_left()


async def test_a_lifespan_that_sends_in_a_loop_does_not_block_the_server(
    make_recorder, no_task_left
):
    class Stubborn(Application):
        async def lifespan(self, scope, receive, send):
            for _ in range(1000):
                with contextlib.suppress(RuntimeError):
                    await send({"type": "lifespan.shutdown.complete"})
            sent_all.set()

    sent_all = asyncio.Event()
    running = asyncio.create_task(make_recorder(Stubborn()).arun())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not sent_all.is_set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    no_task_left()
