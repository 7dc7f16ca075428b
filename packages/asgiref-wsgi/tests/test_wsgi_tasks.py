"""A request's tasks are created like any other task on the event loop."""

import asyncio
import sys
import tempfile
import types

import pytest
from wsgi_client import http_scope, request

from asgiref.wsgi import WsgiToAsgi, WsgiToAsgiInstance


class Recorder:
    """Serves uploads, and records the tasks that run the application and receive the body."""

    def __init__(self):
        self.used = set()
        recorder = self

        class Instance(WsgiToAsgiInstance):
            async def run_wsgi_app(self, body):
                recorder.used.add(asyncio.current_task())
                await super().run_wsgi_app(body)

        class Adapter(WsgiToAsgi):
            instance_class = Instance

        self._adapter = Adapter(self._application)

    @staticmethod
    def _application(environ, start_response):
        length = len(environ["wsgi.input"].read())
        start_response("200 OK", [])
        yield str(length).encode()

    async def serve(self):
        """Serve one upload; return the body of its response."""
        messages = [{"type": "http.request", "body": b"x", "more_body": n > 0} for n in (2, 1, 0)]
        never = asyncio.get_running_loop().create_future()
        sent = []

        async def receive():
            self.used.add(asyncio.current_task())
            return messages.pop(0) if messages else await never

        async def send(event):
            sent.append(event.get("body", b""))

        headers = [(b"content-length", b"3")]
        await self._adapter(http_scope(method="POST", headers=headers), receive, send)
        return b"".join(sent)

    def own_tasks(self):
        """The tasks of the adapter: all that were used, except the one that called it."""
        return {task for task in self.used if task.get_name() != "caller"}


def serve_on(loop, recorder):
    try:
        caller = loop.create_task(recorder.serve(), name="caller")
        return loop.run_until_complete(caller)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.mark.parametrize("how", ["subclass", "attribute"])
def test_the_create_task_of_a_loop_makes_every_task_of_a_request(how, recorder):
    made = []

    class Loop(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, **options):
            made.append(super().create_task(coroutine, **options))
            return made[-1]

    loop = Loop() if how == "subclass" else asyncio.SelectorEventLoop()
    if how == "attribute":
        plain = loop.create_task

        def create_task(coroutine, **options):
            made.append(plain(coroutine, **options))
            return made[-1]

        loop.create_task = create_task
    assert serve_on(loop, recorder) == b"3"
    assert len(recorder.own_tasks()) == 2
    assert recorder.own_tasks() <= set(made)


class Proxy:
    """A wrapper that shows the attributes of the function, like those of wrapt."""

    def __init__(self, plain, replacement):
        self._plain = plain
        self._replacement = replacement

    def __getattr__(self, name):
        return getattr(self._plain, name)

    def __call__(self, *arguments, **options):
        return self._replacement(*arguments, **options)

    def __get__(self, instance, owner):
        return types.MethodType(self, instance)


@pytest.mark.parametrize("is_proxy", [False, True], ids=["function", "proxy"])
def test_a_wrapped_create_task_makes_every_task_of_a_request(is_proxy, recorder, monkeypatch):
    made = []
    plain = asyncio.BaseEventLoop.create_task

    def create_task(self, coroutine, **options):
        made.append(plain(self, coroutine, **options))
        return made[-1]

    wrapper = Proxy(plain, create_task) if is_proxy else create_task
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", wrapper)
    assert serve_on(asyncio.SelectorEventLoop(), recorder) == b"3"
    assert len(recorder.own_tasks()) == 2
    assert recorder.own_tasks() <= set(made)


def test_a_task_factory_makes_every_task_of_a_request(recorder):
    made = []

    def factory(loop, coroutine, **options):
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(factory)
    assert serve_on(loop, recorder) == b"3"
    assert len(recorder.own_tasks()) == 2
    assert recorder.own_tasks() <= set(made)


def test_a_create_task_that_ignores_factories_still_serves_requests(recorder):
    class Loop(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, *, name=None, context=None):
            return asyncio.Task(coroutine, loop=self, name=name, context=context)

    assert serve_on(Loop(), recorder) == b"3"


def test_a_create_task_that_raises_leaves_nothing_behind(monkeypatch):
    class Loop(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, **options):
            if options.get("name") == "WSGI application":
                raise RuntimeError("no more tasks")
            return super().create_task(coroutine, **options)

    files, factories = [], []
    plain = tempfile.TemporaryFile

    def record(*arguments):
        files.append(plain(*arguments))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", record)

    async def main():
        with pytest.raises(RuntimeError, match="no more tasks"):
            await request(
                WsgiToAsgi(lambda environ, start_response: []),
                [b"x" * 2_000_000, b""],
                headers=[(b"transfer-encoding", b"chunked")],
            )
        factories.append(asyncio.get_running_loop().get_task_factory())

    loop = Loop()
    try:
        loop.run_until_complete(loop.create_task(main(), name="caller"))
    finally:
        loop.close()
    assert factories == [None]
    assert [file.closed for file in files] == [True]


def test_tasks_that_the_application_call_starts_are_not_started_eagerly(recorder):
    order = []

    async def child():
        order.append("child")

    class Instance(WsgiToAsgiInstance):
        async def run_wsgi_app(self, body):
            task = asyncio.get_running_loop().create_task(child())
            order.append("parent")
            await task
            await super().run_wsgi_app(body)

    recorder._adapter.instance_class = Instance
    assert serve_on(asyncio.SelectorEventLoop(), recorder) == b"3"
    assert order == ["parent", "child"]


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop needs a Unix system")
def test_requests_are_served_on_uvloop(recorder):
    uvloop = pytest.importorskip("uvloop")
    assert serve_on(uvloop.new_event_loop(), recorder) == b"3"
    assert len(recorder.own_tasks()) == 2
