"""Django through ASGI: sync and async views, middleware, signals and transactions, on SQLite.

A sync and an async middleware wrap every view, so that each request crosses the bridge in both
directions. Each order is one row, with the mark of its request as the key: to write it twice is an
error, and the verdict compares the rows with the answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, models, transaction
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import async_only_middleware, sync_only_middleware

from asgiref.sync import sync_to_async

from .forks import forked
from .marks import OnPurpose, check_mark

BLOCK = bytes(range(256)) * 256  # 64 kB

settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.sync_middleware", f"{__name__}.async_middleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(os.environ["SOAK_FOLDER"]) / "orders.sqlite3"),
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            },
        }
    },
    DATA_UPLOAD_MAX_MEMORY_SIZE=16 * 1024 * 1024,
    USE_TZ=True,
    LOGGING_CONFIG=None,
)
django.setup()


class Order(models.Model):
    mark = models.CharField(max_length=100, primary_key=True)
    digest = models.CharField(max_length=64)

    class Meta:
        app_label = "orders"


def create_tables() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    connection.close()


ordered = Signal()


def sync_receiver(sender: type[Order], mark: str, **_: object) -> str:
    return check_mark(mark)


async def async_receiver(sender: type[Order], mark: str, **_: object) -> str:
    await asyncio.sleep(0)
    return check_mark(mark)


ordered.connect(sync_receiver)
ordered.connect(async_receiver)


def mark(request: HttpRequest) -> str:
    return check_mark(request.headers.get("X-Soak-Mark", ""))


def said(heard: list[tuple[object, object]], own: str) -> str:
    answers = [answer for _, answer in heard]
    if answers != [own, own]:
        raise RuntimeError(f"the receivers of {own} answered {answers}")
    return own


def digest_of(own: str, body: bytes) -> str:
    return hashlib.sha256(own.encode() + body).hexdigest()


def sync_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello {mark(request)}")


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello {await sync_to_async(mark)(request)}")


def read(request: HttpRequest) -> HttpResponse:
    Order.objects.filter(mark="nobody").exists()
    return HttpResponse(mark(request))


def order(request: HttpRequest) -> HttpResponse:
    """Write a row and, in a savepoint that is rolled back, another one."""
    own = mark(request)
    digest = digest_of(own, request.body)
    with transaction.atomic():
        Order.objects.create(mark=own, digest=digest)
        try:
            with transaction.atomic():
                Order.objects.create(mark=f"{own} rolled back", digest="")
                raise OnPurpose(own)
        except OnPurpose:
            pass
        said(ordered.send(Order, mark=own), own)
    return HttpResponse(digest)


async def async_order(request: HttpRequest) -> HttpResponse:
    own = mark(request)
    digest = digest_of(own, request.body)
    await Order.objects.acreate(mark=own, digest=digest)
    said(await ordered.asend(Order, mark=own), own)
    if (await Order.objects.aget(mark=own)).digest != digest:
        raise RuntimeError(f"the order {own} does not read as it was written")
    return HttpResponse(digest)


async def stream(request: HttpRequest, blocks: int) -> StreamingHttpResponse:
    own = mark(request)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            await sync_to_async(check_mark)(own)
            yield BLOCK

    return StreamingHttpResponse(pieces(), content_type="application/octet-stream")


async def slow(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0.1)
    return HttpResponse(mark(request))


def fork(request: HttpRequest) -> HttpResponse:
    return HttpResponse(forked(mark(request)))


def fail(request: HttpRequest) -> HttpResponse:
    raise OnPurpose(mark(request))


async def async_fail(request: HttpRequest) -> HttpResponse:
    raise OnPurpose(mark(request))


@sync_only_middleware
def sync_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        own = mark(request)
        response = get_response(request)
        response["X-Sync"] = check_mark(own)
        return response

    return middleware


@async_only_middleware
def async_middleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        own = mark(request)
        if request.path.endswith("/raise-in-middleware"):
            raise OnPurpose(own)
        response = await get_response(request)
        response["X-Async"] = check_mark(own)
        return response

    return middleware


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("read", read),
    path("order", order),
    path("async-order", async_order),
    path("stream/<int:blocks>", stream),
    path("slow", slow),
    path("fork", fork),
    path("raise", fail),
    path("async-raise", async_fail),
    path("raise-in-middleware", sync_view),
]

django_application = ASGIHandler()
