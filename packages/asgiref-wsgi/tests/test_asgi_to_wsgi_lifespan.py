"""The lifespan of an ASGI application under a WSGI server."""

import asyncio
import contextvars
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from wsgi_caller import START, Request, answer_with, call

from asgiref.wsgi import AsgiToWsgi


class Site:
    """Answers the lifespan with given events, and requests with the scope's state."""

    def __init__(self, *startup, shutdown=("lifespan.shutdown.complete",), error=None):
        self.startup = startup or ("lifespan.startup.complete",)
        self.shutdown = shutdown
        self.error = error
        self.log = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.live(scope["state"], receive, send)
        else:
            self.log.append("request")
            await answer_with(send, str(scope["state"]).encode())
            scope["state"]["number"] = 0

    async def live(self, state, receive, send):
        self.log.append((await receive())["type"])
        state["number"] = 42
        for kind in self.startup:
            await send({"type": kind, "message": "no database"})
        if self.error is not None:
            raise self.error
        self.log.append((await receive())["type"])
        for kind in self.shutdown:
            await send({"type": kind, "message": "no disk"})


@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_startup_comes_before_the_first_request_and_shutdown_at_the_end(lifespan):
    site = Site()
    application = AsgiToWsgi(site, lifespan=lifespan)
    assert call(application).body == b"{'number': 42}"
    assert call(application).body == b"{'number': 42}"  # each request gets a copy
    application.close()
    assert site.log == ["lifespan.startup", "request", "request", "lifespan.shutdown"]


def test_many_first_requests_start_the_application_once():
    site = Site()
    application = AsgiToWsgi(site, lifespan="on")
    together = threading.Barrier(20)

    def first():
        together.wait()
        return call(application).body

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(first) for _ in range(20)]
        assert {answer.result(30) for answer in answers} == {b"{'number': 42}"}
    assert site.log.count("lifespan.startup") == 1
    application.close()


def test_off_skips_the_lifespan():
    async def application(scope, receive, send):
        assert scope["type"] == "http"
        assert "state" not in scope
        await answer_with(send, b"ok")

    adapted = AsgiToWsgi(application, lifespan="off")
    assert call(adapted).body == b"ok"
    adapted.close()


@pytest.mark.parametrize("error", [ValueError("no lifespan"), None, SystemExit(1)])
def test_auto_serves_an_application_without_lifespan(error):
    async def application(scope, receive, send):
        if scope["type"] == "http":
            await answer_with(send, b"ok")
        elif error is not None:
            raise error

    adapted = AsgiToWsgi(application)
    assert call(adapted).body == b"ok"
    adapted.close()


@pytest.mark.parametrize("error", [ValueError("culprit"), None, SystemExit("culprit")])
def test_on_refuses_an_application_without_lifespan(error, caplog):
    async def application(scope, receive, send):
        if error is not None:
            raise error

    adapted = AsgiToWsgi(application, lifespan="on")
    for _ in range(2):
        answer = call(adapted)
        assert answer.status == "500 Internal Server Error"
        assert answer.body == b"The application has not started"
        assert "before lifespan.startup.complete" in str(answer.exc_info[1])
    assert error is None or "culprit" in caplog.text
    adapted.close()


@pytest.mark.parametrize("lifespan", ["auto", "on"])
@pytest.mark.parametrize("error", [None, ValueError("culprit")])
def test_a_failed_startup_is_a_500_for_each_request_and_logged_once(lifespan, error, caplog):
    site = Site("lifespan.startup.failed", error=error)
    adapted = AsgiToWsgi(site, lifespan=lifespan)
    for _ in range(3):
        answer = call(adapted)
        assert answer.status == "500 Internal Server Error"
        assert "no database" in str(answer.exc_info[1])
    assert caplog.text.count("lifespan.startup.failed: no database") == 1
    adapted.close()
    assert site.log.count("lifespan.startup") == 1


def test_a_failed_shutdown_is_logged(caplog):
    adapted = AsgiToWsgi(Site(shutdown=["lifespan.shutdown.failed"]))
    call(adapted)
    adapted.close()
    assert "lifespan.shutdown.failed: no disk" in caplog.text


def test_an_error_in_the_lifespan_after_startup_is_logged_and_requests_are_served(caplog):
    adapted = AsgiToWsgi(Site(error=KeyError("culprit")))
    assert call(adapted).status == "200 OK"
    adapted.close()
    assert "The application's lifespan failed" in caplog.text
    assert "culprit" in caplog.text


def test_a_shutdown_without_end_is_cut_off(caplog):
    async def application(scope, receive, send):
        if scope["type"] == "http":
            await answer_with(send, b"ok")
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.Event().wait()

    adapted = AsgiToWsgi(application, shutdown_timeout=0)
    call(adapted)
    adapted.close()
    assert "lifespan shutdown took more than 0 seconds" in caplog.text


def test_after_close_the_next_request_starts_the_application_again():
    site = Site()
    application = AsgiToWsgi(site)
    for _ in range(2):
        call(application)
        application.close()
        application.close()
    assert site.log == ["lifespan.startup", "request", "lifespan.shutdown"] * 2


def test_close_disconnects_requests_and_shuts_down_after_they_end():
    log = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            log.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await receive()
        log.append((await receive())["type"])

    adapted = AsgiToWsgi(application)
    request = Request(adapted).open()
    adapted.close()
    assert request.next() == b"one"
    with pytest.raises(OSError, match="abandoned"):
        request.next()
    assert log == ["http.disconnect", "lifespan.shutdown"]


def test_the_timeouts_can_be_infinite():
    site = Site()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await site(scope, receive, send)
            return
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    adapted = AsgiToWsgi(
        application, disconnect_timeout=float("inf"), shutdown_timeout=float("inf")
    )
    for ending in ["the server", "the adapter"]:
        request = Request(adapted).open()
        assert request.next() == b"one"
        if ending == "the server":
            request.close()
    adapted.close()
    assert site.log == ["lifespan.startup", "lifespan.shutdown"]


def test_the_lifespan_does_not_see_a_requests_context():
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    async def application(scope, receive, send):
        seen.append(variable.get())
        if scope["type"] == "http":
            await answer_with(send)

    def request():
        variable.set("a request's")
        call(AsgiToWsgi(application))

    contextvars.copy_context().run(request)
    assert seen == ["nothing", "a request's"]


def test_adapters_with_the_same_loop_factory_share_its_loop():
    loops, made = [], []

    async def application(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await answer_with(send)

    def loop_factory():
        made.append(asyncio.new_event_loop())
        return made[-1]

    call(AsgiToWsgi(application, lifespan="off"))
    for _ in range(2):
        call(AsgiToWsgi(application, lifespan="off", loop_factory=loop_factory))
    assert loops[1:] == made * 2
    assert loops[0] is not made[0]


def test_a_loop_factory_that_fails_is_an_error_for_the_server():
    def loop_factory():
        raise KeyError("culprit")

    adapted = AsgiToWsgi(Site(), loop_factory=loop_factory)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"the loop factory .* failed: KeyError"):
            Request(adapted).open()


def test_auto_logs_why_it_considers_lifespan_unsupported(caplog):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise KeyError("culprit")
        await answer_with(send)

    with caplog.at_level(logging.INFO):
        call(AsgiToWsgi(application))
    assert "does not support lifespan" in caplog.text
    assert "culprit" in caplog.text
