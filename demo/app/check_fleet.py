"""``--check`` of the bot with workers: kill one while it answers, and count the answers.

The steps are like those of ``check``. What a user hears decides; the page's own view is only asked
whom to kill, and whether it shows what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .check import Step, Visit, guards, index_page, require, two_users
from .check_clients import IrcUser

GUESSES = 40
KILL_AFTER = 5
"""How many answers are awaited before the worker is killed, so that it is in the middle of them."""


def workers_share(visit: Visit) -> str:
    """Every worker lives and owns a part, and the page has a place for that."""
    page = visit.browser.request("GET", "/").text
    require("Who owns which scope" in page, "the page does not show the workers")
    fleet = visit.events.wait_for("fleet", all_work).data
    shares = [len(owned_by(fleet, worker["name"])) for worker in fleet["workers"]]
    return f"{len(shares)} workers own {shares} partitions"


def kill_a_worker(visit: Visit) -> str:
    """A worker is killed with guesses in hand: each is answered, once, in order."""
    bot = visit.bot()
    with visit.user("k") as user:
        user.ask(bot, "new")
        while "right" in user.ask(bot, "50"):  # from here on 50 is known to be wrong
            user.ask(bot, "new")
        fleet = visit.events.wait_for("fleet", lambda seen: owner_of(seen, user.nick) != "").data
        killed = owner_of(fleet, user.nick)
        for _ in range(GUESSES):
            user.send(f"PRIVMSG {bot} :50")
        answers = [user.hear() for _ in range(KILL_AFTER)]
        answer = visit.browser.post_json("/fleet/kill", worker=killed)
        require(answer.status == 200, f"the kill was answered with {answer.status}")
        answers += [user.hear() for _ in range(GUESSES - KILL_AFTER)]
        numbers = [int(number) for number in re.findall(r"\(guess (\d+)\)", " ".join(answers))]
        require(numbers == list(range(2, GUESSES + 2)), f"the answers were {answers}")
        told = user.ask(bot, "history")
        expected = f"{user.nick}, your guesses: {', '.join(['50'] * (GUESSES + 1))}"
        require(told == expected, f"{told!r} instead of {expected!r}")
        heir = _heir(visit, user, killed)
    again = _latest(visit)["redelivered"]
    return (
        f"{killed} killed after answer {KILL_AFTER}; {heir} gave the rest of {GUESSES}, in order "
        f"({again} of the answers were to redelivered messages)"
    )


def _latest(visit: Visit) -> Any:
    return next(seen.data for seen in reversed(visit.events.seen()) if seen.kind == "fleet")


def _heir(visit: Visit, user: IrcUser, killed: str) -> str:
    def moved(seen: Any) -> bool:
        lives = {worker["name"]: worker["life"] for worker in seen["workers"]}
        dead = lives.get(killed, "ended") == "ended"
        return dead and owner_of(seen, user.nick) not in ("", killed)

    return owner_of(visit.events.wait_for("fleet", moved).data, user.nick)


def fleet_returns(visit: Visit) -> str:
    """Another worker comes in the place of the dead one, and gets its share."""
    first = visit.events.wait_for("fleet", all_work).data
    before = {worker["name"] for worker in first["workers"]}

    def returned(seen: Any) -> bool:
        names = {worker["name"] for worker in seen["workers"]}
        return all_work(seen) and len(names) == len(before) and names != before

    after = visit.events.wait_for("fleet", returned).data
    new = sorted({worker["name"] for worker in after["workers"]} - before)
    require(len(new) == 1, f"one worker was killed, but {new} came")
    return f"{new[0]} came, and owns {len(owned_by(after, new[0]))} partitions"


def kill_is_guarded(visit: Visit) -> str:
    """Only the page may kill, and nothing but a worker of this demo."""
    fleet = visit.events.wait_for("fleet", all_work).data
    first = fleet["workers"][0]
    for name in (str(first["pid"]), "1", "", "worker-0", "../worker-1"):
        status = visit.browser.post_json("/fleet/kill", worker=name).status
        require(status == 409, f"killing {name!r} was answered with {status}")
    body = b'{"worker": "worker-1"}'
    kinds = {"Content-Type": "application/json"}
    crossed = {**kinds, "Sec-Fetch-Site": "cross-site"}
    rebound = {**kinds, "Host": "rebound.example"}
    simple = {"Content-Type": "text/plain"}
    for headers, expected in ((crossed, 403), (rebound, 403), (simple, 415)):
        status = visit.browser.request("POST", "/fleet/kill", body, headers).status
        require(status == expected, f"a kill with {headers} was answered with {status}")
    status = visit.browser.request("GET", "/fleet/kill?worker=worker-1").status
    require(status == 404, f"a kill by GET was answered with {status}")
    return "a process id and unknown names get a 409, other sites a 403, forms a 415, GET a 404"


def all_work(seen: Any) -> bool:
    """Whether all workers work and share all partitions among them."""
    lives = {worker["life"] for worker in seen["workers"]}
    shared = all(owned_by(seen, worker["name"]) for worker in seen["workers"])
    owned = all(partition["owner"] for partition in seen["partitions"])
    return lives == {"works"} and shared and owned


def owned_by(seen: Any, worker: str) -> list[int]:
    """The numbers of the partitions that a worker owns."""
    return [each["number"] for each in seen["partitions"] if each["owner"] == worker]


def owner_of(seen: Any, user: str) -> str:
    """The worker that owns a user's scope; empty if it is not known."""
    found = (each["owner"] for each in seen["partitions"] if user in each["users"])
    return str(next(found, ""))


STEPS: Sequence[Step] = (
    index_page,
    workers_share,
    two_users,
    kill_is_guarded,
    kill_a_worker,
    fleet_returns,
    guards,
)
