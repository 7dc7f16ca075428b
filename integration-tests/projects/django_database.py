"""A Django project with a database: transactions in async code, and persistent connections."""

import asyncio
import json
import sys
import tempfile
import threading
from pathlib import Path

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import close_old_connections, connection, models, transaction
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.test import TransactionTestCase
from django.test.runner import DiscoverRunner
from django.urls import path

from asgiref.sync import (
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
    sync_to_async_context,
)

FOLDER = tempfile.TemporaryDirectory()

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=[],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(FOLDER.name, "database"),
            "CONN_MAX_AGE": 60,
            "OPTIONS": {"timeout": 20},
            "TEST": {"NAME": Path(FOLDER.name, "test-database")},
        }
    },
)
django.setup()


class Note(models.Model):
    text = models.TextField()

    class Meta:
        app_label = "notes"


def create_table():
    with connection.schema_editor() as editor:
        editor.create_model(Note)


async def save(text, error=None):
    """Save a note inside a transaction; an error rolls it back."""
    try:
        async with sync_to_async_context(transaction.atomic()):
            await sync_to_async(Note.objects.create)(text=text)
            in_transaction = await sync_to_async(lambda: connection.in_atomic_block)()
            if error is not None:
                raise error
    except LookupError:
        pass
    return in_transaction, await count(text)


@sync_to_async
def count(text):
    return Note.objects.filter(text=text).count()


async def save_view(request):
    saved = await save("asgi")
    undone = await save("asgi undone", LookupError())
    return HttpResponse(json.dumps([saved, undone]))


async def cancelled_view(request):
    async def save_and_wait(saved):
        async with sync_to_async_context(transaction.atomic()):
            await sync_to_async(Note.objects.create)(text="cancelled")
            saved.set()
            await asyncio.Event().wait()

    saved = asyncio.Event()
    task = asyncio.create_task(save_and_wait(saved))
    await saved.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return HttpResponse(json.dumps([task.cancelled(), await count("cancelled")]))


def count_view(request):
    return HttpResponse(json.dumps(Note.objects.count()))


urlpatterns = [
    path("save", save_view),
    path("cancelled", cancelled_view),
    path("count", count_view),
]


async def get(application, url):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": url,
        "raw_path": url.encode(),
        "query_string": b"",
        "headers": [],
    }
    body = []
    events = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        for event in events:
            return event
        await asyncio.Event().wait()

    async def send(event):
        body.append(event.get("body", b""))

    await application(scope, receive, send)
    return json.loads(b"".join(body))


async def many_requests(application, number, at_once):
    """Return how many connections were opened, and on how many threads."""
    opened = []

    def note(**kwargs):
        opened.append(threading.get_ident())

    connection_created.connect(note)
    try:
        for _ in range(number // at_once):
            await asyncio.gather(*(get(application, "/count") for _ in range(at_once)))
    finally:
        connection_created.disconnect(note)
    return len(opened), len(set(opened))


class NoteTest(TransactionTestCase):
    async def test_transactions(self):
        assert await save("in a test") == (True, 1)
        assert await save("undone in a test", LookupError()) == (True, 0)

    def test_transactions_inside_async_to_sync(self):
        assert async_to_sync(save)("below") == (True, 1)
        assert async_to_sync(save)("undone below", LookupError()) == (True, 0)


class Runner(DiscoverRunner):
    def setup_databases(self, **kwargs):
        old = super().setup_databases(**kwargs)
        create_table()
        return old


def main():
    create_table()
    application = get_asgi_application()
    seen = {
        "async_to_sync": [
            async_to_sync(save)("sync"),
            async_to_sync(save)("sync undone", LookupError()),
        ],
        "asgi": asyncio.run(get(application, "/save")),
        "cancelled": asyncio.run(get(application, "/cancelled")),
        "new_threads": asyncio.run(many_requests(application, 40, 4)),
    }
    ThreadSensitiveContext.reuse_threads = True
    seen["reused_threads"] = asyncio.run(many_requests(application, 1000, 4))
    ThreadSensitiveContext.reuse_threads = False
    close_old_connections()
    runner = Runner(verbosity=0, interactive=False)
    suite = runner.test_loader.loadTestsFromTestCase(NoteTest)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    result = runner.run_suite(suite)
    runner.teardown_databases(databases)
    seen["tests"] = [result.testsRun, len(result.failures) + len(result.errors)]
    print(json.dumps(seen))


if __name__ == "__main__":
    sys.exit(main())
