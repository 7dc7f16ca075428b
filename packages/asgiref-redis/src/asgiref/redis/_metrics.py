"""What workers and gateways count, as OpenTelemetry metrics, if that API is installed.

An instrument can be made once in a process: a second one of its name observes nothing. So each is
made when the first server needs it and stays, and servers come to it and go. It is observed when a
reader asks, and reads numbers that are there anyway: a message costs nothing here.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Reading = Callable[[], int]


def _api() -> Any:
    try:
        return importlib.import_module("opentelemetry.metrics")
    except ImportError:
        return None


class _Instrument:
    """One instrument, and the servers that it observes; readers come on threads of their own."""

    def __init__(self, api: Any, kind: str, name: str) -> None:
        self._api = api
        self.readings: dict[object, tuple[Reading, dict[str, str]]] = {}
        create = getattr(api.get_meter("asgiref.redis"), f"create_observable_{kind}")
        create(name, callbacks=[self._observe])

    def _observe(self, _: Any) -> Iterable[Any]:
        readings = list(self.readings.values())
        return [self._api.Observation(read(), attributes) for read, attributes in readings]


@functools.cache
def _instrument(kind: str, name: str) -> _Instrument:
    return _Instrument(_api(), kind, name)


class Metrics:
    """A server's numbers, from now until `close`; nothing at all without the API.

    Args:
        attributes: what tells this server from others, such as its group and name.
        counters: what only grows, by the name of the instrument.
        gauges: what goes up and down, likewise.
    """

    def __init__(
        self,
        attributes: Mapping[str, str],
        counters: Mapping[str, Reading],
        gauges: Mapping[str, Reading],
    ) -> None:
        self._instruments: list[_Instrument] = []
        if _api() is None:
            return
        for kind, readings in (("counter", counters), ("gauge", gauges)):
            for name, reading in readings.items():
                instrument = _instrument(kind, name)
                instrument.readings[self] = (reading, dict(attributes))
                self._instruments.append(instrument)

    def close(self) -> None:
        """Observe this server no more."""
        for instrument in self._instruments:
            del instrument.readings[self]
        self._instruments.clear()
