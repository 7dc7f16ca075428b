"""Warnings that an adapter logs once, however many requests give reason for them."""

from __future__ import annotations

import logging

_logger = logging.getLogger("asgiref.wsgi")


class Notices:
    """The warnings that one adapter has logged."""

    def __init__(self) -> None:
        self._logged: dict[str, object] = {}

    def warn(self, key: str, message: str, *arguments: object) -> None:
        """Log a warning unless one with this key was logged before. Any thread may call it."""
        mine = object()
        if self._logged.setdefault(key, mine) is mine:  # atomic, so that one thread wins
            _logger.warning(message, *arguments)
