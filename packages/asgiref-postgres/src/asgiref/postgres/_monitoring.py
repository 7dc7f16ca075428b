"""Monitoring of a process: an HTTP health endpoint and OpenTelemetry metrics."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import fields
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from ._codec import CannotStart
from ._pump import Counts, Pump

_ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def health_endpoint(port: int | None, is_healthy: Callable[[], bool]) -> AsyncGenerator[None]:
    """Answer HTTP requests on ``port``, if it is not None: 200 while healthy, otherwise 503.

    Raises:
        CannotStart: if the port cannot be used.
    """
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.LimitOverrunError, EOFError):
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ANSWER % (b"200 OK" if is_healthy() else b"503 Service Unavailable"))
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


#: The pumps of this process, by the name of their owner; None until the instruments exist.
_observed: WeakValueDictionary[str, Pump] | None = None


def export_metrics(name: str, pump: Pump) -> None:
    """Export the counts of a worker or gateway to OpenTelemetry, if that is installed.

    Args:
        name: the name of the worker or gateway, an attribute of each observation.
        pump: its pump, which OpenTelemetry reads on its own thread.
    """
    global _observed
    try:
        metrics: Any = import_module("opentelemetry.metrics")
    except ImportError:
        return
    if _observed is None:
        _observed = WeakValueDictionary()
        _create_instruments(metrics, _observed)
    _observed[name] = pump


def _create_instruments(metrics: Any, pumps: "WeakValueDictionary[str, Pump]") -> None:
    meter = metrics.get_meter("asgiref.postgres")

    def observing(read: Callable[[Pump], int]) -> list[Callable[[Any], Iterable[Any]]]:
        return [
            lambda _options: [
                metrics.Observation(read(pump), {"process": name})
                for name, pump in list(pumps.items())
            ]
        ]

    for each in fields(Counts):
        counter = f"asgiref.postgres.{each.name}"
        meter.create_observable_counter(counter, observing(_count_reader(each.name)))
    meter.create_observable_gauge("asgiref.postgres.held", observing(lambda p: p.delivery.held))
    meter.create_observable_gauge("asgiref.postgres.outbox", observing(lambda p: len(p.outbox)))


def _count_reader(name: str) -> Callable[[Pump], int]:
    return lambda pump: int(getattr(pump.counts, name))
