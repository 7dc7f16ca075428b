"""Monitoring of a process: an HTTP health endpoint and OpenTelemetry metrics."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import fields
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from ._codec import CannotStart
from ._pump import Counts, Pump

_ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def monitored(pump: Pump, port: int | None) -> AsyncGenerator[None]:
    """Export metrics, and answer HTTP requests on ``port``: 200 while connected, otherwise 503.

    Args:
        pump: the pump of the worker or gateway.
        port: None to answer no requests.

    Raises:
        CannotStart: if the port cannot be used.
    """
    with contextlib.suppress(ImportError):  # OpenTelemetry is not installed
        _observed()[pump.name] = pump
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.LimitOverrunError, EOFError):
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ANSWER % (b"200 OK" if pump.session else b"503 Service Unavailable"))
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(answer, port=port)
    except (OSError, OverflowError) as error:
        raise CannotStart(f"The health port {port} cannot be used: {error}.") from error
    try:
        yield
    finally:
        server.close()


@cache
def _observed() -> WeakValueDictionary[str, Pump]:
    """Create the instruments; return the pumps that they observe, by name, on their own thread."""
    metrics: Any = import_module("opentelemetry.metrics")
    pumps: WeakValueDictionary[str, Pump] = WeakValueDictionary()

    def observing(read: Callable[[Pump], Any]) -> list[Callable[[Any], list[Any]]]:
        return [
            lambda _options: [
                metrics.Observation(read(pump), {"process": name})
                for name, pump in list(pumps.items())
            ]
        ]

    meter = metrics.get_meter("asgiref.postgres")
    for field in fields(Counts):
        value = attrgetter(f"counts.{field.name}")
        meter.create_observable_counter(f"asgiref.postgres.{field.name}", observing(value))
    meter.create_observable_gauge("asgiref.postgres.held", observing(lambda p: p.delivery.held))
    meter.create_observable_gauge("asgiref.postgres.outbox", observing(lambda p: len(p.outbox)))
    return pumps
