"""What a worker or gateway counts, as OpenTelemetry metrics, if that API is installed.

The instruments are observed when a reader asks, and read numbers that are there anyway. Each
belongs to one run of one server: a run that has ended observes nothing.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Reading = Callable[[], int]


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Metrics:
    """Instruments for a server's numbers; nothing at all without the API.

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
        self._attributes = dict(attributes)
        self._running = True
        api = _optional("opentelemetry.metrics")
        if api is None:
            return
        meter = api.get_meter("asgiref.redis")
        for name, reading in counters.items():
            meter.create_observable_counter(name, callbacks=[self._callback(api, reading)])
        for name, reading in gauges.items():
            meter.create_observable_gauge(name, callbacks=[self._callback(api, reading)])

    def _callback(self, api: Any, reading: Reading) -> Callable[[Any], Iterable[Any]]:
        def observe(_: Any) -> Iterable[Any]:
            if not self._running:
                return []
            return [api.Observation(reading(), self._attributes)]

        return observe

    def close(self) -> None:
        """Observe nothing from now on."""
        self._running = False
