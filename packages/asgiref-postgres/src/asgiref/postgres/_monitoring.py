"""Monitoring of a process: an HTTP health endpoint and OpenTelemetry metrics."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from ._codec import CannotStart
from ._pump import Counts, Pump

_ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HealthEndpoint:
    """The address and port of the HTTP health endpoint; there is none if ``port`` is None.

    By default it listens on every address, because Kubernetes connects to the pod's address.
    """

    address: str | None
    port: int | None

    def __post_init__(self) -> None:
        if self.port is None and self.address is not None:
            raise CannotStart(f"The health address {self.address!r} needs a health port.")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise CannotStart(f"The health port must be between 1 and 65535, not {self.port}.")


@contextlib.asynccontextmanager
async def monitored(pump: Pump, endpoint: HealthEndpoint) -> AsyncGenerator[None]:
    """Export metrics, and answer HTTP requests: 200 while connected, otherwise 503.

    Raises:
        CannotStart: if the endpoint cannot be used.
    """
    with contextlib.suppress(ImportError):  # OpenTelemetry is not installed
        _observed()[pump.name] = pump
    if endpoint.port is None:
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
        server = await asyncio.start_server(answer, endpoint.address, endpoint.port)
    except OSError as error:
        where = f"{endpoint.address or '*'}:{endpoint.port}"
        raise CannotStart(f"The health endpoint {where} cannot be used: {error}.") from error
    try:
        yield
    finally:
        server.close()


@cache
def _observed() -> WeakValueDictionary[str, Pump]:
    """Create the instruments; return the pumps by name. OpenTelemetry reads them on its thread."""
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
