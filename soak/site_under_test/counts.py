"""Counts of the calls served so far. Only the event loop's thread changes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from records import Served


@dataclass(slots=True)
class Counts:
    served: dict[str, Served] = field(default_factory=dict)
    heard: int = 0
    said: int = 0

    def kind(self, name: str) -> Served:
        return self.served.setdefault(name, Served())


COUNTS = Counts()
