"""How often a message has been tried, and what the death of a worker says about it.

An application that raises can be asked how it went. One that takes its process with it (a
segmentation fault, the kernel out of memory, ``os._exit``) leaves only what was written before. So:

1. What is given to an application *again* is written down first, as an attempt that has begun. A
   failure closes it, an acknowledgement removes it. If the worker dies, its successor finds it
   open. A first delivery is not written down: every message would pay for it.
2. After a death, everything pending that has no record has died once: which of it had begun,
   nobody knows. So the deaths are counted exactly for a message that kills each time, and a message
   that was only read ahead has one attempt less.
3. The neighbours of such a message, in hand at the same time, die with it. So who has died twice is
   a *suspect*, and a worker gives one suspect at a time to an application, and not beside those
   that have died once (`_admission`): the next death counts for that one alone. (A message that
   nobody has had before can still kill a worker that has a suspect in hand. That costs the suspect
   one attempt, once for each such message.) One that takes long lets the next begin, but not in its
   last attempt: then it would be a dead letter for what the other one did.
4. An attempt that was open when its worker died is a failure like any other. After as many as are
   allowed, the message becomes a dead letter without being given to anybody.
5. A partition that is given back in order takes back what was cut off, and so does a worker that
   lost its lease because Redis was away, if it is the next holder too: it knows that it lives. One
   that stood still for longer than its lease counts as dead. It may have been stopped, or an
   application may have blocked its event loop, which would do the same to the next one.

A record is written as ``count deaths worker``; the worker's name is there while it is open.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ._entries import EntryId, entry_id


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of a message that count.

    Attributes:
        count: how many; the one that has begun among them.
        deaths: in how many of them the worker died; the one that has begun counts as one.
        worker: the worker of the one that has begun; empty if none has.

    >>> once = Attempts().begun_by("a")
    >>> once
    Attempts(count=1, deaths=1, worker='a')
    >>> once.failed(), once.taken_back() == Attempts()
    (Attempts(count=1, deaths=0, worker=''), True)
    """

    count: int = 0
    deaths: int = 0
    worker: str = ""

    @classmethod
    def parse(cls, record: bytes) -> "Attempts":
        """What `record` has written.

        >>> Attempts.parse(Attempts(3, 2, "a").record) == Attempts(3, 2, "a")
        True
        """
        count, deaths, worker = record.decode().split(" ")
        return cls(int(count), int(deaths), worker)

    @property
    def record(self) -> bytes:
        return f"{self.count} {self.deaths} {self.worker}".encode()

    def begun_by(self, worker: str) -> "Attempts":
        """One more has begun, which counts as a death until more is known."""
        return Attempts(self.count + 1, self.deaths + 1, worker)

    def failed(self) -> "Attempts":
        """The one that has begun, written down or not, ended with an exception."""
        if self.worker:
            return Attempts(self.count, self.deaths - 1)
        return Attempts(self.count + 1, self.deaths)

    def taken_back(self) -> "Attempts":
        """The one that has begun does not count."""
        return Attempts(self.count - 1, self.deaths - 1) if self.worker else self

    def are_over(self, limit: int) -> bool:
        """Whether so many have been made, and the last killed its worker and was alone with it."""
        return bool(self.worker) and self.deaths >= 2 and self.count >= limit

    def are_suspect(self, limit: int) -> bool:
        """Whether the next one must be the only one of its kind in its worker."""
        return self.deaths >= 2 or (self.deaths >= 1 and self.is_next_last(limit))

    def is_next_last(self, limit: int) -> bool:
        return self.count + 1 >= limit

    def epitaph(self) -> str:
        """Why the message is a dead letter, if its last attempt has no exception."""
        return (
            f"its worker died {self.deaths} times while it was handled, or stood still for longer "
            f"than its lease; the last one was {self.worker}"
        )


NONE = Attempts()
#: What is assumed of a message in a partition whose holder has died.
DIED_ONCE = Attempts(1, 1)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the holders before this one have left in a partition.

    Attributes:
        doubt: the last entry that an application may have seen.
        died: the last entry that was pending when a holder died.
        records: the attempts that were written down, by the id of the entry.
    """

    doubt: EntryId
    died: EntryId
    records: dict[str, Attempts]

    @classmethod
    def of(cls, doubt: bytes, died: bytes, records: Sequence[bytes]) -> "Inheritance":
        """From what Redis answers; ``records``: ids and records in turn."""
        pairs = zip(records[::2], records[1::2], strict=True)
        return cls(
            entry_id(doubt),
            entry_id(died),
            {id.decode(): Attempts.parse(record) for id, record in pairs},
        )

    def take(self, id: str) -> tuple[bool, Attempts]:
        """Whether an application may have seen an entry, and its attempts; to be asked once."""
        place, record = entry_id(id), self.records.pop(id, None)
        if record is not None:
            return True, record
        return place <= self.doubt, DIED_ONCE if place <= self.died else NONE
