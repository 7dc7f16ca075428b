"""The events that an application may send next, and a queue that enforces them.

A violation is recorded, and also raised in the application's ``send``, as a server would do. The
test therefore fails even if the application swallows the error. Rules never refer to the
communicator, so that it is finalized as soon as the test drops it.
"""

# ruff: noqa: ASYNC109 - the timeout of the public methods

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Never, cast

from ._output import Output, OutputQueue
from ._report import is_mapping, name_of, safe_repr, type_of
from ._runner import Runner
from ._scopes import fault_of_headers


class Rules:
    """Base class for the rules of one protocol.

    Attributes:
        violation: a sentence about the first event that a server would reject, or None.
        is_over: whether the application has sent everything that it may send.
    """

    def __init__(self, application: object) -> None:
        self._name = name_of(application)
        self._reported = False
        self.violation: str | None = None
        self.is_over = False

    def check(self, event: object) -> Output:
        """Record an event that the application sends, and return a copy of it.

        Raises:
            AssertionError: if a server would reject the event.
        """
        if not is_mapping(event) or not isinstance(cast(Output, event).get("type"), str):
            self.complain("sent an object that is not an event (a mapping with a 'type')", event)
        if self.is_over:
            self.complain(f"sent {type_of(event)!r} after the end", event)
        checked = self._copy(cast(Output, event))
        self._advance(checked)
        return checked

    def note_end(self) -> None:
        """Record that the application returned while its client was still connected."""

    def _advance(self, event: Output) -> None:
        raise NotImplementedError

    def _copy(self, event: Output) -> Output:
        """Copy an event: a server writes it during ``send``, so the application may reuse it."""
        try:
            return {key: _copied(key, value) for key, value in event.items()}
        except ValueError:
            self.complain(f"sent {event['type']!r} with a released memoryview", event)

    def complain(self, what: str, event: object) -> Never:
        self.fail(f"{what}: {safe_repr(event)}")
        raise AssertionError(self.violation)

    def fail(self, what: str) -> None:
        """Record a violation, unless there is one already."""
        self.violation = self.violation or f"{self._name} {what}"

    def raise_violation(self) -> None:
        """Raise the violation, unless the test has seen it."""
        if self.violation is not None and not self._reported:
            self._reported = True
            raise AssertionError(self.violation)

    def mark_reported(self) -> None:
        """Mark the violation as reported: the test has an error that says the same."""
        self._reported = True

    def require_due(self, event: Output, *due: str) -> None:
        if event["type"] not in due:
            self.complain(f"sent {event['type']!r} where {' or '.join(due)} was due", event)

    def require_headers(self, event: Output) -> None:
        fault = fault_of_headers(event.get("headers", ()))
        if fault is not None:
            self.complain(f"sent {event['type']!r} with {fault}", event)

    def require_bytes(self, event: Output, key: str) -> None:
        if not isinstance(event.get(key, b""), bytes):
            self.complain(f"sent {event['type']!r} with a {key} that is not bytes", event)

    def require_status(self, event: Output) -> None:
        status = event.get("status")
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 999:
            self.complain(f"sent {event['type']!r} with the status {safe_repr(status)}", event)


def _copied(key: str, value: Any) -> Any:
    if isinstance(value, (bytearray, memoryview)):
        return bytes(cast(bytes, value))
    if key == "headers" and isinstance(value, (list, tuple, Iterator)):
        return [_line_copied(each) for each in cast(Iterable[Any], value)]
    return list(cast(Iterable[Any], value)) if isinstance(value, list) else value


def _line_copied(line: Any) -> Any:
    return tuple(cast(Iterable[Any], line)) if isinstance(line, list) else line


class CheckedQueue(OutputQueue):
    """An output queue whose events follow ``rules``."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules

    async def put(self, item: Output) -> None:
        try:
            event = self.rules.check(item)
        except BaseException:
            await asyncio.sleep(0)  # an application that retries at once must not freeze the test
            raise
        self.put_nowait(event)


async def next_event(runner: Runner, rules: Rules, timeout: float | None, *due: str) -> Output:
    """Return the application's next event; if none arrives, the error names ``due``."""
    if runner.outputs.empty():
        rules.raise_violation()
    try:
        return await runner.receive(timeout)
    except TimeoutError as error:
        rules.raise_violation()
        if runner.task.done():
            rules.mark_reported()  # this error says that the application returned too early
        error.add_note(f"The test waited for {' or '.join(due)}.")
        raise
