"""The adapter as a whole: scopes, subclasses, threads, context variables."""

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import weakref

import pytest
from wsgi_client import Exchange, http_scope, request

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from asgiref.wsgi import WsgiToAsgi, WsgiToAsgiInstance

pytestmark = pytest.mark.asyncio


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello"]


def caller(function):
    """An application that responds with the function's result."""

    def application(environ, start_response):
        start_response("200 OK", [])
        return [str(function()).encode()]

    return application


# Scopes


class Conversation:
    def __init__(self, *messages):
        self.messages = list(messages)
        self.sent = []

    async def receive(self):
        return {"type": self.messages.pop(0)}

    async def receive_request(self):
        return {"type": "http.request"}

    async def send(self, event):
        self.sent.append(event)


async def shut_down(application):
    conversation = Conversation("lifespan.startup", "lifespan.shutdown")
    await application({"type": "lifespan"}, conversation.receive, conversation.send)
    return conversation.sent


@pytest.mark.parametrize("adapter", [WsgiToAsgi, WsgiToAsgiInstance])
async def test_lifespan_is_answered(adapter):
    assert [event["type"] for event in await shut_down(adapter(hello))] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_a_websocket_is_closed():
    conversation = Conversation("websocket.connect")
    scope = {"type": "websocket", "extensions": None}
    await WsgiToAsgi(hello)(scope, conversation.receive, conversation.send)
    assert conversation.sent == [{"type": "websocket.close", "code": 1000}]


async def test_a_websocket_is_denied_if_the_server_supports_that():
    conversation = Conversation("websocket.connect")
    scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    await WsgiToAsgi(hello)(scope, conversation.receive, conversation.send)
    assert [event["type"] for event in conversation.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert conversation.sent[0]["status"] == 403


async def test_a_websocket_that_is_gone_gets_no_answer():
    conversation = Conversation("websocket.disconnect")
    await WsgiToAsgi(hello)({"type": "websocket"}, conversation.receive, conversation.send)
    assert conversation.sent == []


@pytest.mark.parametrize("kind", ["irc", "http2"])
async def test_other_scopes_are_refused(kind):
    conversation = Conversation()
    with pytest.raises(ValueError, match=f"non-HTTP scope: '{kind}'"):
        await WsgiToAsgi(hello)({"type": kind}, conversation.receive, conversation.send)


# Options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": -1}, ValueError),
        ({"backpressure": 0}, ValueError),
        ({"workers": 1, "thread_sensitive": True}, TypeError),
    ],
)
async def test_invalid_options_are_rejected(options, error):
    with pytest.raises(error):
        WsgiToAsgi(hello, **options)


async def test_an_executor_is_not_for_thread_sensitive_code():
    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="pass only one of workers"),
    ):
        WsgiToAsgi(hello, executor=executor, thread_sensitive=True)


async def test_an_application_is_callable():
    with pytest.raises(TypeError, match="must be callable, but 'hello' is not"):
        WsgiToAsgi("hello")


# Bad requests


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([(b"x", b"1")] * 101, b"Bad Request: Too many duplicate headers"),
        ([(b"content-length", b"many")], b"Bad Request: Content-Length is not a number"),
        ([(b"content-length", b"1"), (b"content-length", b"2")], b"Bad Request: Conflicting"),
    ],
)
async def test_a_request_that_cannot_be_trusted_is_answered_with_400(headers, text):
    called = []
    answer = await request(WsgiToAsgi(lambda *args: called.append(args)), headers=headers)
    assert answer.status == 400
    assert answer.body.startswith(text)
    assert called == []


async def test_a_value_error_from_a_subclass_is_a_400_without_its_message(caplog):
    class Instance(WsgiToAsgiInstance):
        def build_environ(self, scope, body):
            raise ValueError("secret")

    answer = await request(Instance(hello))
    assert (answer.status, answer.body) == (400, b"Bad Request")
    assert "secret" in caplog.text


# Subclasses, as they are written for asgiref 3.13


async def test_build_environ_can_be_extended():
    class Instance(WsgiToAsgiInstance):
        def build_environ(self, scope, body):
            environ = super().build_environ(scope, body)
            environ["REMOTE_USER"] = scope["user"]
            return environ

    class Adapter(WsgiToAsgi):
        async def __call__(self, scope, receive, send):
            await Instance(self.wsgi_application, self.duplicate_header_limit)(scope, receive, send)

    def application(environ, start_response):
        start_response("200 OK", [])
        return [environ["REMOTE_USER"].encode()]

    assert (await request(Adapter(application), user="jo")).body == b"jo"


async def test_the_instance_class_can_be_set():
    class Instance(WsgiToAsgiInstance):
        def build_environ(self, scope, body):
            return super().build_environ(scope, body) | {"REMOTE_USER": "jo"}

    class Adapter(WsgiToAsgi):
        instance_class = Instance

    def application(environ, start_response):
        start_response("200 OK", [])
        return [environ["REMOTE_USER"].encode()]

    assert (await request(Adapter(application, workers=2))).body == b"jo"


async def test_start_response_can_be_extended():
    class Instance(WsgiToAsgiInstance):
        def start_response(self, status, response_headers, exc_info=None):
            write = super().start_response(status, response_headers, exc_info)
            self.response_start["headers"].append((b"x-extra", b"1"))
            return write

    answer = await request(Instance(hello))
    assert answer.headers == [(b"content-type", b"text/plain"), (b"x-extra", b"1")]


async def test_run_wsgi_app_can_be_wrapped():
    seen = []

    class Instance(WsgiToAsgiInstance):
        async def run_wsgi_app(self, body):
            seen.append("before")
            await super().run_wsgi_app(body)
            seen.append("after")

    assert (await request(Instance(hello))).body == b"Hello"
    assert seen == ["before", "after"]


async def test_run_wsgi_app_can_be_replaced_by_synchronous_code():
    class Instance(WsgiToAsgiInstance):
        @sync_to_async
        def run_wsgi_app(self, body):
            environ = self.build_environ(self.scope, body)
            for chunk in self.wsgi_application(environ, self.start_response):
                if not self.response_started:
                    self.response_started = True
                    self.sync_send(self.response_start)
                self.sync_send({"type": "http.response.body", "body": chunk, "more_body": True})
            self.sync_send({"type": "http.response.body"})

    assert (await request(Instance(hello))).body == b"Hello"


async def test_run_wsgi_app_can_be_awaited_by_an_overridden_call():
    class Instance(WsgiToAsgiInstance):
        async def __call__(self, scope, receive, send):
            self.scope = scope
            self.sync_send = async_to_sync(send)
            await self.run_wsgi_app(None)

    assert (await request(Instance(hello))).body == b"Hello"


async def test_the_responses_state_can_be_read():
    instance = WsgiToAsgiInstance(hello)
    assert not hasattr(instance, "response_start")
    assert (instance.response_started, instance.response_content_length) == (False, None)
    instance.start_response("200 OK", [("Content-Length", "5")])
    assert instance.response_start["status"] == 200
    assert (instance.response_started, instance.response_content_length) == (False, 5)
    served = WsgiToAsgiInstance(hello)
    await request(served)
    assert (served.response_started, served.response_content_length) == (True, None)


# Threads


async def meet(application, count):
    """Send `count` requests at once; return the bodies."""
    answers = await asyncio.gather(*(request(application) for _ in range(count)))
    return [answer.body for answer in answers]


async def test_requests_run_side_by_side():
    barrier = threading.Barrier(8)
    bodies = await meet(WsgiToAsgi(caller(lambda: barrier.wait() >= 0)), 8)
    assert bodies == [b"True"] * 8


class Gauge:
    """Counts the threads inside at once; each waits there until `together` have entered."""

    def __init__(self, together):
        self.barrier = threading.Barrier(together)
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def __call__(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.barrier.wait()
        with self.lock:
            self.inside -= 1
        return threading.current_thread().name


@pytest.mark.parametrize("workers", [1, 3])
async def test_as_many_requests_run_at_once_as_there_are_workers(workers):
    gauge = Gauge(workers)
    await meet(WsgiToAsgi(caller(gauge), workers=workers), 24)
    assert gauge.most == workers


async def test_thread_sensitive_requests_run_one_by_one_on_the_shared_thread():
    gauge = Gauge(1)
    bodies = await meet(WsgiToAsgi(caller(gauge), thread_sensitive=True), 5)
    shared = await sync_to_async(lambda: threading.current_thread().name)()
    assert set(bodies) == {shared.encode()}
    assert gauge.most == 1


@pytest.mark.parametrize("thread_sensitive", [False, True])
async def test_the_environ_says_whether_requests_run_in_parallel(thread_sensitive):
    told = {}

    def application(environ, start_response):
        told.update({key: environ[key] for key in environ if key.startswith("wsgi.")})
        start_response("200 OK", [])
        return []

    await request(WsgiToAsgi(application, thread_sensitive=thread_sensitive))
    assert told["wsgi.multithread"] is not thread_sensitive
    assert (told["wsgi.run_once"], told["wsgi.version"]) == (False, (1, 0))
    assert told["wsgi.input_terminated"] is True


async def test_a_given_executor_runs_the_requests():
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as executor:
        application = WsgiToAsgi(caller(lambda: threading.current_thread().name), executor=executor)
        assert (await request(application)).body == b"mine_0"


async def test_inside_a_thread_sensitive_context_its_thread_runs_the_request():
    threads = []
    application = WsgiToAsgi(caller(lambda: threads.append(threading.current_thread())))
    async with ThreadSensitiveContext():
        thread = await sync_to_async(threading.current_thread)()
        await request(application)
    await request(application)
    assert [one is thread for one in threads] == [True, False]


@pytest.mark.parametrize("stall", ["reading", "writing"])
async def test_stalled_clients_never_occupy_all_workers(stall):
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/stall":
            if stall == "reading":
                environ["wsgi.input"].read()
            start_response("200 OK", [])
            return iter([b"x" * 100_000] * 10)
        start_response("200 OK", [])
        return [b"served"]

    adapter = WsgiToAsgi(application, workers=2)
    stalled = []
    for _ in range(20):
        exchange = Exchange(adapter, http_scope(path="/stall"))
        if stall == "writing":
            exchange.sends_open.clear()
        stalled.append(exchange.start().feed(b"begun", more=stall == "reading"))
    answers = await asyncio.gather(*(request(adapter) for _ in range(20)))
    assert [answer.body for answer in answers] == [b"served"] * 20
    for exchange in stalled:
        exchange.sends_open.set()
        exchange.feed(b"the rest")
        await exchange.end()
        assert sum(len(event.get("body", b"")) for event in exchange.sent()) == 1_000_000
    assert (await request(adapter)).body == b"served"


async def test_cancelled_requests_never_occupy_all_workers():
    adapter = WsgiToAsgi(lambda environ, start_response: environ["wsgi.input"].read(), workers=2)
    for _ in range(20):
        exchange = Exchange(adapter).start().feed(b"begun", more=True)
        await asyncio.sleep(0)
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.end()
    adapter.wsgi_application = hello
    assert (await request(adapter)).body == b"Hello"


async def test_a_request_cancelled_in_the_queue_never_runs():
    runs, may_end, ran = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def application(environ, start_response):
        ran.append(environ["PATH_INFO"])
        loop.call_soon_threadsafe(runs.set)
        may_end.wait()
        return hello(environ, start_response)

    adapter = WsgiToAsgi(application, workers=1)
    first = Exchange(adapter, http_scope(path="/first")).start().feed()
    await runs.wait()
    second = Exchange(adapter, http_scope(path="/second")).start().feed()
    for _ in range(10):
        await asyncio.sleep(0)
    second.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second.end()
    may_end.set()
    await first.end()
    await request(adapter, path="/third")
    assert ran == ["/first", "/third"]


async def test_shutdown_frees_the_idle_threads():
    threads = []

    def application(environ, start_response):
        threads.append(threading.current_thread())
        return hello(environ, start_response)

    adapter = WsgiToAsgi(application)
    await request(adapter)
    await shut_down(adapter)
    await asyncio.to_thread(threads[0].join)
    assert not threads[0].is_alive()
    assert (await request(adapter)).body == b"Hello"


async def test_async_to_sync_in_the_application_uses_the_server_s_loop():
    async def where():
        return asyncio.get_running_loop()

    loops = []
    await request(WsgiToAsgi(caller(lambda: loops.append(async_to_sync(where)()))))
    assert loops == [asyncio.get_running_loop()]


async def test_a_cancelled_call_cancels_the_coroutine_that_the_application_awaits():
    waiting, cancelled = asyncio.Event(), []

    async def wait_forever():
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    exchange = Exchange(WsgiToAsgi(caller(async_to_sync(wait_forever)))).start().feed()
    await waiting.wait()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    assert cancelled == [True]


# Context variables

variable = contextvars.ContextVar("variable", default="nothing")


async def test_the_application_sees_what_middleware_set_and_keeps_its_own_until_close():
    seen = []

    class Body:
        def __iter__(self):
            seen.append(variable.get())
            yield b"x"

        def close(self):
            seen.append(variable.get())

    def application(environ, start_response):
        seen.append(variable.get())
        variable.set("the application")
        start_response("200 OK", [])
        return Body()

    variable.set("middleware")
    await request(WsgiToAsgi(application))
    assert seen == ["middleware", "the application", "the application"]


async def test_nothing_leaks_from_one_request_to_the_next():
    def application(environ, start_response):
        start_response("200 OK", [])
        before = variable.get()
        variable.set("leaked")
        return [before.encode()]

    adapter = WsgiToAsgi(application, workers=1)
    seen_in_send = []

    class Call(Exchange):
        async def _send(self, event):
            seen_in_send.append(variable.get())
            await super()._send(event)

    for _ in range(3):
        call = Call(adapter).start().feed()
        await call.end()
        assert call.sent()[1]["body"] == b"nothing"
        await adapter(http_scope(), Conversation().receive_request, call._send)
    assert set(seen_in_send) == {"nothing"}
    assert variable.get() == "nothing"


async def test_the_bridge_can_be_hooked(monkeypatch):
    handled = []
    original = SyncToAsync.thread_handler

    def handler(self, loop, *args, **kwargs):
        handled.append(loop)
        return original(self, loop, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "thread_handler", handler)
    assert (await request(WsgiToAsgi(hello))).body == b"Hello"
    assert handled == [asyncio.get_running_loop()]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_request_leaves_nothing_for_the_cyclic_collector(fails):
    instances = []

    class Instance(WsgiToAsgiInstance):
        def build_environ(self, scope, body):
            instances.append(weakref.ref(self))
            return super().build_environ(scope, body)

    class Adapter(WsgiToAsgi):
        instance_class = Instance

    def application(environ, start_response):
        start_response("200 OK", [])
        if fails:
            raise LookupError
        yield b"Hello"

    adapter = Adapter(application, thread_sensitive=True)
    gc.collect()
    gc.disable()
    try:
        conversation = Conversation("http.request", "http.disconnect")
        try:
            await adapter(http_scope(), conversation.receive, conversation.send)
        except LookupError:
            assert fails
        for _ in range(2):
            await sync_to_async(int)()  # both threads have released the previous call
        assert [instance() for instance in instances] == [None]
    finally:
        gc.enable()
