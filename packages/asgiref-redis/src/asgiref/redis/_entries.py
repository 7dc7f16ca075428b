"""Entries of streams, and the order of their ids."""

from dataclasses import dataclass

EntryId = tuple[int, int]


def entry_id(text: bytes | str) -> EntryId:
    """The id as two numbers, which compare as Redis orders entries: milliseconds and a count."""
    milliseconds, _, count = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(milliseconds), int(count or 0)


@dataclass(slots=True, eq=False)
class Event:
    """What an application has sent, on its way into the outgoing stream.

    Attributes:
        id: for whoever wants to recognise duplicates.
        scope_id, scope, message: as they go into the stream.
        redelivered: it was sent for a message that was redelivered.
    """

    id: bytes
    scope_id: bytes
    scope: bytes
    message: bytes
    redelivered: bool
