"""The events of a response, in the order in which the specification allows them."""

from enum import Enum, auto

from ._output import Output
from ._rules import Rules
from ._scopes import Overrides, declared_length, extensions_of

START, BODY, TRAILERS = (f"http.response.{name}" for name in ("start", "body", "trailers"))
HINTS = ("http.response.early_hint", "http.response.push")
DEBUG = "http.response.debug"
FILES = ("http.response.zerocopysend", "http.response.pathsend")

_WITHOUT_BODY = (204, 304)


class HttpPhase(Enum):
    """The event that is due next."""

    START = auto()
    BODY = auto()
    TRAILERS = auto()
    NOTHING = auto()


class HttpRules(Rules):
    """The rules for an application that answers a request.

    The events of an extension are allowed only if the scope offers the extension. The length of the
    body is compared with ``content-length`` except for HEAD, whose body servers discard, and for
    files that the server would read.
    """

    def __init__(self, application: object, scope: Overrides) -> None:
        super().__init__(application)
        self._offered = extensions_of(scope)
        self._is_head = scope.get("method") == "HEAD"
        self._phase = HttpPhase.START
        self._trailers_follow = False
        self._status = 0
        self._length: int | None = None  # bytes of the body that are still due, if known

    def note_end(self) -> None:
        if self._phase is HttpPhase.START:
            self.fail("returned without starting a response")
        elif not self.is_over:
            self.fail("returned without completing its response")

    def after(self, event: Output) -> HttpPhase:
        """Return the phase that follows ``event``, the last one of its own phase."""
        if event["type"] == TRAILERS or not self._trailers_follow:
            return HttpPhase.NOTHING
        return HttpPhase.TRAILERS

    def _advance(self, event: Output) -> None:
        if event["type"] in (DEBUG, *HINTS, *FILES) and event["type"] not in self._offered:
            self.complain(f"sent {event['type']!r}, an extension that the scope lacks", event)
        match self._phase:
            case HttpPhase.START:
                self.require_due(event, START, DEBUG, *HINTS)
                if event["type"] == START:
                    self._start(event)
            case HttpPhase.BODY:
                self.require_due(event, BODY, *FILES, *HINTS)
                if event["type"] not in HINTS:
                    self._body(event)
            case _:
                self.require_due(event, TRAILERS)
                self.require_headers(event)
                self.is_over = not event.get("more_trailers", False)

    def _start(self, event: Output) -> None:
        self.require_status(event)
        self.require_headers(event)
        self._status = event["status"]
        self._trailers_follow = TRAILERS in self._offered and bool(event.get("trailers", False))
        self._require_length(event)
        self._phase = HttpPhase.BODY

    def _require_length(self, event: Output) -> None:
        length = declared_length(event.get("headers", ()))
        if isinstance(length, str):
            self.complain(f"sent {START!r} with {length}", event)
        if self._status in _WITHOUT_BODY:
            length = 0  # the header may describe what another request would get
        self._length = None if self._is_head else length

    def _body(self, event: Output) -> None:
        if event["type"] == BODY:
            self.require_bytes(event, "body")
            self._count(event)
        else:
            self._length = None  # the server would read the file
        if not event.get("more_body", False):
            if self._length:
                self.complain(
                    f"ended the body {self._length} bytes short of its content-length", event
                )
            self._phase = HttpPhase.TRAILERS
            self.is_over = not self._trailers_follow

    def _count(self, event: Output) -> None:
        if self._length is None:
            return
        size = len(event.get("body", b""))
        if size > self._length:
            excess = "a body" if self._status in _WITHOUT_BODY else "more than its content-length"
            self.complain(f"sent {excess} in a response with the status {self._status}", event)
        self._length -= size
