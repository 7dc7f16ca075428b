"""Django through ASGI: sync and async views, middleware, signals and transactions, on SQLite.

A sync and an async middleware wrap every view, so that each request crosses the bridge in both
directions. Each order is one row, with the mark of its request as the key: writing it twice is an
error, and the verdict compares the rows with the answers.
"""

import asyncio
import contextlib
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.db import models, transaction
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import async_only_middleware, sync_only_middleware

from asgiref.sync import sync_to_async

from .accounts import BLOCK, FOLDER, OnPurpose, check_mark

DATABASE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": str(FOLDER / "orders.sqlite3"),
    "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
}
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.sync_middleware", f"{__name__}.async_middleware"],
    DATABASES={"default": DATABASE},
    LOGGING_CONFIG=None,
)
django.setup()
with contextlib.closing(sqlite3.connect(DATABASE["NAME"])) as database:
    database.execute("CREATE TABLE orders_order (mark TEXT PRIMARY KEY)")
    database.execute("PRAGMA journal_mode=WAL")


class Order(models.Model):
    mark = models.CharField(max_length=100, primary_key=True)

    class Meta:
        app_label = "orders"


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


def ordered_answer(request: HttpRequest, heard: list[tuple[object, object]]) -> HttpResponse:
    """Require that both receivers found the mark, and return the digest of the order."""
    if [answer for _, answer in heard] != [own := mark(request)] * 2:
        raise RuntimeError(f"the receivers of {own} answered {heard}")
    return HttpResponse(hashlib.sha256(own.encode() + request.body).hexdigest())


def sync_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello {mark(request)}")


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello {await sync_to_async(mark)(request)}")


def order(request: HttpRequest) -> HttpResponse:
    """Write a row and, in a savepoint that is rolled back, another one."""
    own = mark(request)
    with transaction.atomic():
        Order.objects.create(mark=own)
        with contextlib.suppress(OnPurpose), transaction.atomic():
            Order.objects.create(mark=f"{own} rolled back")
            raise OnPurpose(own)
        return ordered_answer(request, ordered.send(Order, mark=own))


async def async_order(request: HttpRequest) -> HttpResponse:
    own = mark(request)
    await Order.objects.acreate(mark=own)
    order = await Order.objects.aget(mark=own)
    return ordered_answer(request, await ordered.asend(Order, mark=order.mark))


async def stream(request: HttpRequest, blocks: int) -> StreamingHttpResponse:
    async def pieces(own: str) -> AsyncIterator[bytes]:
        for _ in range(blocks):
            await sync_to_async(check_mark)(own)
            yield BLOCK

    return StreamingHttpResponse(pieces(mark(request)), content_type="application/octet-stream")


async def slow(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0.1)
    return HttpResponse(mark(request))


def fail(request: HttpRequest) -> HttpResponse:
    raise OnPurpose(mark(request))


@sync_only_middleware
def sync_middleware(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        own = mark(request)
        response = get_response(request)
        check_mark(own)
        return response

    return middleware


@async_only_middleware
def async_middleware(get_response: Any) -> Any:
    async def middleware(request: HttpRequest) -> Any:
        own = mark(request)
        response = await get_response(request)
        check_mark(own)
        return response

    return middleware


VIEWS: dict[str, Any] = {"sync": sync_view, "async": async_view, "order": order}
VIEWS |= {"stream/<int:blocks>": stream, "slow": slow, "raise": fail, "async-order": async_order}
urlpatterns = [path(route, view) for route, view in VIEWS.items()]

django_application = ASGIHandler()
