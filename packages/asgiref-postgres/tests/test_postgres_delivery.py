"""The delivery core against a model of the table, with transactions that commit out of order."""

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asgiref.postgres._delivery import Delivery, Limits, Message, Read, Row
from asgiref.postgres._schema import SPAN

PARTITIONS = (1, 2)
SENDERS = ("ada", "bob")
SCOPES = tuple(f"{partition}{name}" for partition in PARTITIONS for name in "abc")
LIMITS = Limits(messages=12, size=200, scope_messages=4, scope_size=60, attempts=5, retry_delay=1.0)


@dataclass
class Stored:
    id: int
    scope_id: str
    data: bytes
    attempts: int = 0
    redelivered: bool = False


@dataclass
class Table:
    """The part of the message table that a reader can see: the rows of ended transactions."""

    rows: dict[int, dict[int, Stored]] = field(default_factory=lambda: {p: {} for p in PARTITIONS})
    in_flight: dict[str, tuple[int, list[Stored]]] = field(default_factory=dict)
    suspect: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    dead: list[int] = field(default_factory=list)
    next_id: int = 1
    next_transaction: int = 1

    def insert(self, sender: str, scope_id: str, size: int) -> None:
        if sender not in self.in_flight:
            self.in_flight[sender] = (self.next_transaction, [])
            self.next_transaction += 1
        row = Stored(int(scope_id[0]) * SPAN + self.next_id, scope_id, b"x" * size)
        self.in_flight[sender][1].append(row)
        self.next_id += 1

    def commit(self, sender: str) -> None:
        for row in self.in_flight.pop(sender)[1]:
            self.rows[row.id // SPAN][row.id] = row

    def xmin(self) -> int:
        return min((xid for xid, _ in self.in_flight.values()), default=self.next_transaction)


class Reader:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.delivery = Delivery(LIMITS)
        self.taken = 0
        self.hand: dict[str, Message] = {}

    def exchange(self) -> bool:
        """Run one transaction, as the SQL statement does."""
        delivery, table = self.delivery, self.table
        read, writes = delivery.next_read(), delivery.take_writes()
        found, xmin = self.found(read), table.xmin()
        own, table.next_transaction = table.next_transaction, table.next_transaction + 1
        assert not {each.id for each in writes.done} & set(writes.tried)
        for message in writes.done:
            del table.rows[message.id // SPAN][message.id]
        for message in writes.tried.values():
            row = table.rows[message.id // SPAN][message.id]
            row.attempts, row.redelivered = message.attempts, True
        for message in writes.dead:
            del table.rows[message.id // SPAN][message.id]
            table.dead.append(message.id)
        self.taken = max([self.taken, *(row[0] % SPAN for row in found if row[2] is not None)])
        more = delivery.rows_read(read, found, xmin, own) if found else False
        delivery.written(writes)
        return more

    def found(self, read: Read) -> list[Row]:
        """Return the rows of a read. They include those that the same transaction deletes."""
        found: list[Row] = []
        for each in read.ranges:
            size = 0
            rows = [
                row
                for id, row in sorted(self.table.rows[each.upto // SPAN].items())
                if each.after < id <= each.upto
                and each.scope_id in (None, row.scope_id)
                and (each.scope_id is not None or id not in read.known)
            ]
            for row in rows[: each.limit]:
                if size >= each.size:
                    break
                is_hidden = each.scope_id is None and row.scope_id in read.behind
                data = None if is_hidden else row.data
                size += len(data or b"")
                found.append((row.id, row.scope_id, data, row.attempts, row.redelivered))
        return found


class DeliveryMachine(RuleBasedStateMachine):
    """Simulate two readers, late commits, failures, deaths, poison messages and hand-over."""

    @initialize()
    def start(self) -> None:
        self.table = Table()
        self.now = 0.0
        self.readers = [Reader(self.table), Reader(self.table)]
        self.given: set[int] = set()
        self.handled: list[int] = []
        self.poison: set[int] = set()
        self.scope_of: dict[int, str] = {}
        self.sender_of: dict[int, str] = {}
        for partition in PARTITIONS:
            self.readers[0].delivery.acquire(partition, 0, 0)

    @rule(
        sender=st.sampled_from(SENDERS),
        scope_id=st.sampled_from(SCOPES),
        size=st.integers(1, 40),
        poison=st.booleans(),
    )
    def send(self, sender: str, scope_id: str, size: int, poison: bool) -> None:
        id = int(scope_id[0]) * SPAN + self.table.next_id
        if poison and len(self.poison) < 3:
            self.poison.add(id)
        self.scope_of[id] = scope_id
        self.sender_of[id] = sender
        self.table.insert(sender, scope_id, size)

    @rule(
        sender=st.sampled_from(SENDERS),
        scope_id=st.sampled_from(SCOPES),
        count=st.integers(5, 30),
    )
    def chatter(self, sender: str, scope_id: str, count: int) -> None:
        for _ in range(count):
            self.send(sender, scope_id, 2, False)
        self.table.commit(sender)

    @precondition(lambda self: self.table.in_flight)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.table.commit(data.draw(st.sampled_from(sorted(self.table.in_flight))))

    @rule(reader=st.integers(0, 1))
    def exchange(self, reader: int) -> None:
        self.readers[reader].exchange()

    @rule(reader=st.integers(0, 1), seconds=st.sampled_from((0.0, 0.5, 70.0)))
    def give_out(self, reader: int, seconds: float) -> None:
        self.now += seconds
        owner = self.readers[reader]
        for scope_id in owner.delivery.take_ready(self.now):
            if not self.give(owner, scope_id):
                return

    def give(self, owner: Reader, scope_id: str) -> bool:
        """Hand out one message; return whether the reader survived."""
        message = owner.delivery.next_message(scope_id)
        if message is None:
            return True
        assert all(scope_id not in reader.hand for reader in self.readers)
        sender = self.sender_of[message.id]
        before = {
            id
            for id, scope in self.scope_of.items()
            if scope == scope_id and self.sender_of[id] == sender and id < message.id
        }
        assert before <= {*self.handled, *self.table.dead}, "out of order"
        assert message.redelivered or message.id not in self.given, "unmarked duplicate"
        assert message.id not in self.handled, "handled twice"
        self.given.add(message.id)
        owner.hand[scope_id] = message
        if message.id in self.poison:
            self.die(owner)
            return False
        return True

    def die(self, reader: Reader) -> None:
        place = self.readers.index(reader)
        survivor = self.readers[1 - place]
        owned = list(reader.delivery.partitions)
        self.forget_uncommitted(owned)
        for partition in owned:
            suspect = self.table.suspect[partition]
            self.table.suspect[partition] = max(suspect, reader.taken)
            suspect = self.table.suspect[partition]
            survivor.delivery.acquire(partition, suspect, suspect)
        self.readers[place] = Reader(self.table)

    @rule(place=st.integers(0, 1))
    def lose_session(self, place: int) -> None:
        """Give the reader a new session with the same partitions."""
        before = self.readers[place]
        owned = list(before.delivery.partitions)
        self.forget_uncommitted(owned)
        reader = self.readers[place] = Reader(self.table)
        reader.taken = before.taken
        for partition in owned:
            suspect = self.table.suspect[partition]
            reader.delivery.acquire(partition, suspect, max(suspect, reader.taken))

    def forget_uncommitted(self, owned: list[int]) -> None:
        """Expect a marked redelivery of each message whose acknowledgement was not committed."""
        self.handled = [
            id
            for id in self.handled
            if not (int(self.scope_of[id][0]) in owned and self.exists(id))
        ]

    def exists(self, id: int) -> bool:
        return any(id in rows for rows in self.table.rows.values())

    def pick(self, reader: int, data: st.DataObject) -> Message | None:
        hand = self.readers[reader].hand
        return hand.pop(data.draw(st.sampled_from(sorted(hand)))) if hand else None

    @rule(reader=st.integers(0, 1), data=st.data())
    def acknowledge(self, reader: int, data: st.DataObject) -> None:
        if (message := self.pick(reader, data)) is not None:
            self.handled.append(message.id)
            self.readers[reader].delivery.acknowledge(message)

    @rule(reader=st.integers(0, 1), data=st.data())
    def put_back(self, reader: int, data: st.DataObject) -> None:
        if (message := self.pick(reader, data)) is not None:
            self.readers[reader].delivery.put_back(message)

    @rule(reader=st.integers(0, 1), data=st.data())
    def fail(self, reader: int, data: st.DataObject) -> None:
        message = self.pick(reader, data)
        if message is not None and message.attempts < LIMITS.attempts - 1:
            self.readers[reader].delivery.fail(message, "reason", self.now)
        elif message is not None:
            self.readers[reader].delivery.put_back(message)

    @rule(partition=st.sampled_from(PARTITIONS))
    def hand_over(self, partition: int) -> None:
        giver = next(each for each in self.readers if partition in each.delivery.partitions)
        taker = self.readers[1 - self.readers.index(giver)]
        giver.delivery.partitions[partition].is_releasing = True
        for scope_id in [each for each in giver.hand if int(each[0]) == partition]:
            message = giver.hand.pop(scope_id)
            self.handled.append(message.id)
            giver.delivery.acknowledge(message)
        giver.exchange()
        self.table.suspect[partition] = giver.delivery.drop(partition)
        suspect = self.table.suspect[partition]
        taker.delivery.acquire(partition, suspect, suspect)

    @invariant()
    def limits_hold(self) -> None:
        for reader in self.readers:
            assert reader.delivery.held <= LIMITS.messages

    def teardown(self) -> None:
        for sender in list(self.table.in_flight):
            self.table.commit(sender)
        for _ in range(2000):
            if not any(self.table.rows.values()):
                break
            self.now += 100.0
            for reader in list(self.readers):
                reader.exchange()
                for message in list(reader.hand.values()):
                    del reader.hand[message.scope_id]
                    self.handled.append(message.id)
                    reader.delivery.acknowledge(message)
                for scope_id in reader.delivery.take_ready(self.now):
                    if not self.give(reader, scope_id):
                        break
        assert not any(self.table.rows.values()), "messages are left"
        if any(id not in self.poison for id in self.table.dead):
            pytest.fail("A message that does not kill its reader became a dead letter.")
        assert sorted({*self.handled, *self.table.dead}) == sorted(self.scope_of)


TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = settings(
    max_examples=int(os.environ.get("ASGIREF_POSTGRES_EXAMPLES", "50")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def row(number: int, scope_id: str, size: int = 2) -> Row:
    return (SPAN + number, scope_id, b"x" * size, 0, False)


def exchange(delivery: Delivery, *rows: Row) -> Read:
    """Run one transaction that returns ``rows``."""
    writes, read = delivery.take_writes(), delivery.next_read()
    delivery.rows_read(read, rows, 1, 1 if rows else 0)
    delivery.written(writes)
    return read


def taken_over(limits: Limits, *rows: Row) -> Delivery:
    """Return the delivery of a reader whose predecessor died after it had read ``rows``."""
    delivery = Delivery(limits)
    delivery.acquire(1, len(rows), len(rows))
    exchange(delivery, *rows)
    exchange(delivery)
    return delivery


def test_a_message_that_fails_again_and_again_does_not_hold_up_the_suspects_of_other_scopes() -> (
    None
):
    delivery = taken_over(Limits(), row(1, "down"), row(2, "down"), row(3, "a"), row(4, "b"))
    failing = delivery.next_message("down")
    assert failing is not None
    delivery.fail(failing, "the service is down", 0.0)
    exchange(delivery)
    delivery.take_ready(1.0)  # the retry is due
    assert delivery.next_message("down") is failing
    first = delivery.next_message("a")
    assert first is not None
    delivery.acknowledge(first)
    exchange(delivery)
    delivery.fail(failing, "the service is down", 1.0)
    exchange(delivery)
    assert delivery.take_ready(1.0) == ["b"]


def test_with_one_attempt_a_message_that_was_only_read_does_not_become_a_dead_letter() -> None:
    delivery = taken_over(Limits(attempts=1), row(1, "a"), row(2, "b"))
    handled = []
    for _ in range(2):
        for scope_id in delivery.take_ready(0.0):
            message = delivery.next_message(scope_id)
            assert message is not None
            handled.append(message.id % SPAN)
            delivery.acknowledge(message)
        exchange(delivery)
    assert handled == [1, 2]


def test_a_message_that_kills_a_second_worker_becomes_a_dead_letter_after_one_attempt() -> None:
    delivery = Delivery(Limits(attempts=1))
    delivery.acquire(1, 1, 1)
    id, scope_id, data, _, _ = row(1, "a")
    exchange(delivery, (id, scope_id, data, 2, True))
    assert [each.id for each in delivery.take_writes().dead] == [id]


def test_a_suspect_whose_partition_is_released_before_its_turn_counts_no_attempt() -> None:
    delivery = taken_over(Limits(), row(1, "a"))
    assert delivery.take_ready(0.0) == ["a"]  # its attempt is stored, but its instance is starting
    delivery.partitions[1].is_releasing = True
    assert delivery.next_message("a") is None
    assert [each.attempts for each in delivery.take_writes().tried.values()] == [1]


def test_a_suspect_whose_partition_is_being_released_does_not_hold_up_another_partition() -> None:
    delivery = taken_over(Limits(), row(1, "a"))
    delivery.acquire(2, 1, 1)
    exchange(delivery, (2 * SPAN + 1, "b", b"x", 0, False))
    delivery.partitions[1].is_releasing = True
    exchange(delivery)
    assert "b" in delivery.take_ready(0.0)
    assert delivery.next_message("b") is not None


def test_a_read_for_many_scopes_that_are_behind_stays_within_the_limits() -> None:
    limits = Limits()
    delivery = Delivery(limits)
    delivery.acquire(1, 0, 0)
    scopes = [f"scope{number}" for number in range(500)]
    for start in (0, 500):  # half of the limit; the second message of each scope is left behind
        exchange(delivery, *(row(start + place, each) for place, each in enumerate(scopes)))
    for scope_id in delivery.take_ready(0.0):
        message = delivery.next_message(scope_id)
        assert message is not None
        delivery.acknowledge(message)
    late = [each for each in exchange(delivery).ranges if each.scope_id is not None]
    assert late
    assert sum(each.limit for each in late) <= limits.messages
    assert sum(each.size for each in late) <= limits.size


def test_a_message_from_a_slow_transaction_is_read_once_although_two_ranges_can_return_it() -> None:
    delivery = Delivery(Limits(messages=24, scope_messages=4))
    for partition in range(1, 7):
        delivery.acquire(partition, 0, 0)
    handled: list[int] = []

    def handle() -> None:
        while (message := delivery.next_message("chatty")) is not None:
            handled.append(message.id % SPAN)
            delivery.acknowledge(message)

    exchange(delivery, *(row(number, "chatty") for number in (1, 2, 3, 4)))
    exchange(delivery, row(5, "chatty"), row(20, "chatty"))  # the scope is behind
    handle()
    # A transaction with the ids 6 to 10 commits. The range of the scope contains 10; the range of
    # the partition is full before it.
    chatty = [row(number, "chatty") for number in (5, 10, 20)]
    read = exchange(delivery, *chatty, *(row(number, f"scope{number}") for number in (6, 7, 8, 9)))
    assert [each.limit for each in read.ranges[:2]] == [4, 4]
    exchange(delivery, row(10, "chatty"))
    handle()
    assert sorted(handled) == [1, 2, 3, 4, 5, 10, 20]


def test_the_messages_of_a_slow_transaction_keep_their_order_if_their_scope_is_behind() -> None:
    delivery = Delivery(Limits(scope_messages=2))
    delivery.acquire(1, 0, 0)
    handled: list[int] = []

    def handle() -> None:
        while (message := delivery.next_message("chatty")) is not None:
            handled.append(message.id % SPAN)
            delivery.acknowledge(message)

    exchange(delivery, row(1, "chatty"), row(2, "chatty"))
    exchange(delivery, row(4, "chatty"), row(9, "chatty"))  # the scope is behind
    handle()
    # A transaction with the ids 3 and 5 commits. The range of the scope, 4 to 9, contains only 5.
    exchange(delivery, row(4, "chatty"), row(5, "chatty"))
    hidden = [(SPAN + number, "chatty", None, 0, False) for number in (3, 5)]
    exchange(delivery, *hidden)
    for numbers in ((3, 4), (5, 9), (9,)):
        handle()
        exchange(delivery, *(row(number, "chatty") for number in numbers))
    handle()
    assert handled.index(3) < handled.index(5)


def test_a_scope_whose_only_message_was_taken_meanwhile_is_not_ready() -> None:
    delivery = Delivery(Limits())
    delivery.acquire(1, 0, 0)
    exchange(delivery, row(1, "a"), row(2, "a"))
    assert delivery.take_ready(0.0) == ["a"]
    first = delivery.next_message("a")
    assert first is not None
    delivery.acknowledge(first)
    second = delivery.next_message("a")
    assert second is not None
    delivery.acknowledge(second)
    assert delivery.take_ready(0.0) == []
