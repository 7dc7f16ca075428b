"""``--check`` of the bot with workers: kill one while it answers, and count the answers.

The steps are like those of ``check``. The answers to users decide; the page is only used to choose
a worker to kill, and must show the result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .check import Step, Visit, guards, index_page, require, two_users
from .check_clients import IrcUser

GUESSES = 40
KILL_AFTER = 5
"""The number of answers before the kill, so that the worker dies in the middle of its work."""


def workers_share(visit: Visit) -> str:
    """Require that every worker runs and owns partitions, and that the page shows them."""
    page = visit.browser.request("GET", "/").text
    require("Who owns which scope" in page, "the page does not show the workers")
    fleet = visit.events.wait_for("fleet", all_work).data
    shares = [len(owned_by(fleet, worker["name"])) for worker in fleet["workers"]]
    return f"{len(shares)} workers own {shares} partitions"


def kill_a_worker(visit: Visit) -> str:
    """Kill a worker with unfinished guesses, and require one answer to each, in order."""
    bot = visit.bot()
    with visit.user("k") as user:
        user.ask(bot, "new")
        while "right" in user.ask(bot, "50"):  # from here on, 50 is wrong
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
    """Require that another worker replaces the dead one and gets its share."""
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
    """Require that only the page can kill, and only workers of this demo."""
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
    """Return the numbers of the partitions that a worker owns."""
    return [each["number"] for each in seen["partitions"] if each["owner"] == worker]


def owner_of(seen: Any, user: str) -> str:
    """Return the worker that owns a user's scope, or an empty string if it is unknown."""
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
