"""What `redis_streams` makes of its measurements: tables, with ratios round by round.

A figure is the median of the rounds, a ratio the median of the rounds' ratios.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from record import Kind, Measured, Table
from redis_messages import Case, Way

__all__ = ["BRISK", "MANY", "ROLES", "STEADY", "TARGETS", "Carried", "Results", "p99", "tables_of"]

#: Messages a second at which latency is measured: what all ways bear, and what two of them do.
STEADY, BRISK = 200, 5000
#: How many times as many messages a second as the others carry.
TARGETS = {Way.BARE: 0.6, Way.CHANNELS: 3.0}
#: Which processes compute.
ROLES = ("producer", "Redis", "workers")
#: With fewer scopes, what one of them takes cannot be told from everything else.
MANY = 10_000


@dataclass(frozen=True, slots=True)
class Carried:
    """What it took to carry a lot of messages.

    Attributes:
        seconds: from the first message's call to the last receipt.
        latencies: seconds until the receipt, of each message, from when it was due.
        computed: seconds of processor time, by role.
        duplicates: how often a message was received again.
    """

    seconds: float
    latencies: Sequence[float]
    computed: Mapping[str, float]
    duplicates: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


@dataclass(slots=True)
class Results:
    """The rounds of one case.

    Attributes:
        whole: as fast as it goes.
        paced: at a rate, by that.
        first: messages a second to scopes that have no application yet.
        memory: bytes of the workers that an application then takes.
    """

    case: Case
    first: float
    memory: float
    whole: dict[Way, list[Carried]] = field(default_factory=dict)
    paced: dict[int, dict[Way, list[Carried]]] = field(default_factory=dict)

    def note(self, way: Way, at: int, carried: Carried) -> None:
        """One more round; `at` is 0 for one as fast as it goes."""
        rounds = self.paced.setdefault(at, {}) if at else self.whole
        rounds.setdefault(way, []).append(carried)


def p99(carried: Carried) -> float:
    """The latency that 99 of 100 messages do not exceed, in milliseconds."""
    ordered = sorted(carried.latencies)
    return 1000 * ordered[math.ceil(0.99 * len(ordered)) - 1]


def rate(carried: Carried) -> float:
    return carried.rate


def median(rounds: Sequence[Carried], figure: Callable[[Carried], float]) -> float:
    return statistics.median(map(figure, rounds))


def tables_of(results: Sequence[Results]) -> list[Table]:
    tables = [throughput(other, results) for other in TARGETS]
    tables += [latency(at, results) for at in (STEADY, BRISK)]
    tables += [computed(results), batched(results), repeated(results), begun(results)]
    return [table for table in tables if table.cases]


def throughput(other: Way, results: Sequence[Results]) -> Table:
    cases = []
    for result in results:
        ours, theirs = result.whole[Way.OURS], result.whole[other]
        ratios = [a.rate / b.rate for a, b in zip(ours, theirs, strict=True)]
        met = statistics.median(ratios) >= TARGETS[other]
        pair = median(ours, rate), median(theirs, rate)
        cases.append(Measured(str(result.case), *pair, ratios, TARGETS[other], met))
    return Table(
        f"messages a second, beside {other}", Kind.THROUGHPUT, "messages/s", cases, theirs=other
    )


def noted(case: Case, costs: Sequence[float], columns: dict[str, float]) -> Measured:
    """Costs of ours, round by round, that have no target; `columns` is what is shown."""
    return Measured(
        str(case), statistics.median(costs), None, list(costs), 0, True, columns=columns
    )


def latency(at: int, results: Sequence[Results]) -> Table:
    cases = []
    for result in results:
        rounds = result.paced[at]
        columns = {str(way): median(each, p99) for way, each in rounds.items()}
        cases.append(noted(result.case, list(map(p99, rounds[Way.OURS])), columns))
    return Table(f"p99 in ms, at {at:,} messages a second", Kind.NOTED, "ms", cases)


def computed(results: Sequence[Results]) -> Table:
    cases = []
    for result in results:
        columns = {
            f"{way}: {role}": median(rounds, partial(microseconds, role=role))
            for way, rounds in result.whole.items()
            for role in ROLES
        }
        cases.append(noted(result.case, list(map(of_all, result.whole[Way.OURS])), columns))
    return Table("processor time of a message in µs", Kind.NOTED, "µs", cases)


def batched(results: Sequence[Results]) -> Table:
    """The slower messages come, the fewer share what a step costs."""
    cases = []
    for result in results:
        rounds = {f"{way}, {BRISK:,}/s": each for way, each in result.paced[BRISK].items()}
        rounds |= {f"{way}, {STEADY:,}/s": each for way, each in result.paced[STEADY].items()}
        columns = {name: median(each, of_all) for name, each in rounds.items()}
        cases.append(noted(result.case, list(map(of_all, result.paced[STEADY][Way.OURS])), columns))
    return Table("the same at a steady rate, of all processes", Kind.NOTED, "µs", cases)


def microseconds(carried: Carried, role: str) -> float:
    return 1e6 * carried.computed[role] / len(carried.latencies)


def of_all(carried: Carried) -> float:
    return sum(microseconds(carried, role) for role in ROLES)


def repeated(results: Sequence[Results]) -> Table:
    """Messages that came again although nothing had failed."""
    cases = []
    for result in results:
        columns = {
            str(way): median(rounds, lambda each: 100 * each.duplicates / len(each.latencies))
            for way, rounds in result.whole.items()
        }
        cases.append(noted(result.case, [columns[Way.OURS]], columns))
    return Table("messages received more than once, in %", Kind.NOTED, "%", cases)


def begun(results: Sequence[Results]) -> Table:
    """What a scope's first message costs, where there are enough of them to be measured."""
    cases = [
        noted(
            result.case,
            [result.memory / 1000],
            {"first messages a second": result.first, "kB an application": result.memory / 1000},
        )
        for result in results
        if result.case.scopes >= MANY
    ]
    return Table("scopes that begin", Kind.NOTED, "kB", cases)
