"""Lifespans around a block, and applications that fail or do not support them."""

import asyncio
import gc

import pytest

from asgiref.testing import HttpExchange, Lifespan, LifespanFailed

pytestmark = pytest.mark.asyncio


class Site:
    """An application with a configurable lifespan, which records events in ``log``."""

    def __init__(self, startup="complete", shutdown="complete", after=None):
        self.answers = {"startup": startup, "shutdown": shutdown}
        self.after = after
        self.log = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": scope["state"]["greeting"]})
            scope["state"]["greeting"] = b"overwritten"
            return
        scope["state"]["greeting"] = b"hello"
        for step, answer in self.answers.items():
            assert await receive() == {"type": f"lifespan.{step}"}
            self.log.append(step)
            await send({"type": f"lifespan.{step}.{answer}"})
        if self.after is not None:
            await self.after()
        self.log.append("end")


async def test_the_lifespan_surrounds_the_block_and_requests_get_its_state():
    site = Site()
    async with Lifespan(site) as lifespan:
        assert site.log == ["startup"]
        assert lifespan.supported is True
        for _ in range(2):  # each gets its own copy
            async with HttpExchange(site, state=lifespan.state) as exchange:
                assert (await exchange.response()).body == b"hello"
    assert site.log == ["startup", "shutdown", "end"]


async def test_the_scope_matches_the_specification():
    lifespan = Lifespan(Site())
    asgi = {"version": "3.0", "spec_version": "2.0"}
    assert lifespan.scope == {"type": "lifespan", "asgi": asgi, "state": {}}
    assert lifespan.scope["state"] is lifespan.state


@pytest.mark.parametrize("required", [True, False])
async def test_a_startup_that_failed_is_raised_with_its_message(required):
    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(LifespanFailed, match="The startup failed: no database"):
        async with Lifespan(application, required=required):
            raise AssertionError("not reached")


async def test_a_shutdown_that_failed_is_raised():
    with pytest.raises(LifespanFailed, match="The shutdown failed: no reason given"):
        async with Lifespan(Site(shutdown="failed")):
            pass


@pytest.mark.parametrize("step", ["startup", "shutdown"])
async def test_an_answer_that_violates_the_specification_raises_an_error(step):
    async def live(site):
        async with Lifespan(site):
            pass

    with pytest.raises(AssertionError, match=f"'lifespan.{step}.done' where lifespan.{step}"):
        await live(Site(**{step: "done"}))


COMPLETE = [{"type": f"lifespan.{step}.complete"} for step in ("startup", "shutdown")]


@pytest.mark.parametrize(
    ("after_startup", "after_shutdown", "complaint"),
    [
        ([], [COMPLETE[1]], "shutdown.complete' after the end"),
        ([COMPLETE[0]], [], "startup.complete' where lifespan.shutdown.complete or"),
        ([{"type": "http.response.start"}], [], "'http.response.start' where lifespan.shutdown"),
        ([["no mapping"]], [], "an object that is not an event"),
    ],
)
@pytest.mark.parametrize("swallowed", [True, False])
async def test_an_event_that_a_server_would_reject_fails_the_block(
    after_startup, after_shutdown, complaint, swallowed
):
    async def application(scope, receive, send):
        for complete, further in zip(COMPLETE, (after_startup, after_shutdown), strict=True):
            await receive()
            await send(complete)
            for event in further:
                try:
                    await send(event)
                except AssertionError:
                    if not swallowed:
                        raise

    with pytest.raises(AssertionError, match=f"application .*{complaint}"):
        async with Lifespan(application):
            await asyncio.sleep(0)


@pytest.mark.parametrize("required", [True, False])
async def test_a_wrong_answer_is_not_mistaken_for_an_application_without_a_lifespan(required):
    async def application(scope, receive, send):
        await send({"type": "lifespan_ready"})

    with pytest.raises(AssertionError, match="sent 'lifespan_ready' where lifespan"):
        async with Lifespan(application, required=required):
            raise AssertionError("not reached")


async def test_an_application_may_return_before_its_shutdown():
    async def application(scope, receive, send):
        await receive()
        await send(COMPLETE[0])

    async with Lifespan(application) as lifespan:
        await asyncio.wait({lifespan.future})
        assert lifespan.supported is True


async def refusing(scope, receive, send):
    raise LookupError("http only")


async def leaving(scope, receive, send):
    pass


async def test_an_application_without_a_lifespan_fails_the_block_if_it_is_required():
    with pytest.raises(LookupError, match="http only"):
        async with Lifespan(refusing):
            raise AssertionError("not reached")
    with pytest.raises(TimeoutError, match="leaving will send nothing more: it returned"):
        async with Lifespan(leaving):
            raise AssertionError("not reached")


@pytest.mark.parametrize("application", [refusing, leaving])
async def test_an_application_without_a_lifespan_may_be_served_as_servers_do(application, caplog):
    async with Lifespan(application, required=False) as lifespan:
        assert lifespan.supported is False
        assert lifespan.state == {}
        assert lifespan.future.done()
    del lifespan
    gc.collect()
    assert not caplog.records  # asyncio logs failures that were never retrieved


async def silent(scope, receive, send):
    await receive()
    await asyncio.Event().wait()


@pytest.mark.parametrize("required", [True, False])
async def test_a_startup_without_an_answer_times_out_and_cancels(required):
    lifespan = Lifespan(silent, required=required, timeout=0.01)
    with pytest.raises(TimeoutError, match="silent sent nothing within") as caught:
        await lifespan.__aenter__()
    assert caught.value.__notes__ == [
        "The test waited for lifespan.startup.complete or lifespan.startup.failed."
    ]
    assert lifespan.future.cancelled()


@pytest.mark.parametrize("required", [True, False])
async def test_cancelling_a_test_that_waits_for_the_startup_cancels_the_application(required):
    lifespan, started = Lifespan(silent, required=required), asyncio.Event()

    async def test():
        started.set()
        async with lifespan:
            raise AssertionError("not started")

    testing = asyncio.create_task(test())
    await started.wait()
    await asyncio.sleep(0)
    testing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await testing
    assert lifespan.future.cancelled()


async def test_an_application_that_stays_after_its_shutdown_is_cancelled_and_fails_the_test():
    lifespan = Lifespan(Site(after=asyncio.Event().wait), timeout=0.01)
    with pytest.raises(TimeoutError, match=r"did not end within .*: it was waiting at"):
        async with lifespan:
            pass
    assert lifespan.future.cancelled()


async def test_a_failure_after_the_shutdown_is_raised():
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("too late")

    with pytest.raises(LookupError, match="too late"):
        async with Lifespan(Site(after=fail)):
            pass


async def test_an_application_that_fails_during_the_block_fails_it():
    crash = asyncio.Event()

    async def crashing(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await crash.wait()
        raise LookupError("between the two")

    async def test():
        async with Lifespan(crashing) as lifespan:
            crash.set()
            await asyncio.wait({lifespan.future})

    with pytest.raises(LookupError, match="between the two"):
        await test()


async def test_a_block_that_fails_shuts_down_and_keeps_its_error():
    site = Site(shutdown="failed")
    with pytest.raises(ZeroDivisionError):
        async with Lifespan(site) as lifespan:
            raise ZeroDivisionError
    assert site.log == ["startup", "shutdown", "end"]
    assert lifespan.future.done()


async def test_cancelling_the_test_in_its_block_shuts_down_too():
    site, started = Site(), asyncio.Event()

    async def test():
        async with Lifespan(site):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(test())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert site.log == ["startup", "shutdown", "end"]


async def test_an_application_that_the_test_has_stopped_is_not_shut_down():
    site = Site()
    async with Lifespan(site) as lifespan:
        lifespan.stop()
    assert lifespan.future.cancelled()
    assert site.log == ["startup"]


async def test_startup_and_shutdown_run_in_one_task():
    tasks = []

    async def application(scope, receive, send):
        for step in ("startup", "shutdown"):
            await receive()
            tasks.append(asyncio.current_task())
            await send({"type": f"lifespan.{step}.complete"})

    async with Lifespan(application) as lifespan:
        pass
    assert tasks == [lifespan.future] * 2
