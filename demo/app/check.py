"""``--check``: visit everything over real HTTP and WebSockets, and judge the observations.

Each step is a function that raises `Complaint` if it finds a fault, and otherwise returns its
observation. Steps use the traces of earlier steps, so their order matters; a failed step does not
stop the others. `run` returns 0 only if every step passed and the demo ended properly.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import http.client
import importlib.metadata
import itertools
import json
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asgiref.testing import ApplicationCommunicator

from .bot import NICK
from .chat import REFUSED
from .demo import PieceFailed, Settings, running
from .game import GuessingGame
from .guestbook import made_up

SECONDS = 20.0
UPLOAD_BYTES = 8 << 20
GUESSES = 40
KILL_AFTER = 5
"""The number of answers before the kill, so that the worker dies in the middle of its work."""
PIECES = frozenset({"uvicorn", "bot", "fleet", "own-postgres"})


class Complaint(Exception):
    """The check found a fault."""


def require(condition: bool, complaint: str) -> None:
    """Raise `Complaint` unless the condition holds."""
    if not condition:
        raise Complaint(complaint)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit to the demo at ``port``; ``mark`` distinguishes its traces from those of others."""

    port: int
    mark: str

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; a body given as an iterable is sent chunked, piece by piece."""
        with closing(self.connection()) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def post(self, path: str, headers: Mapping[str, str] | None = None, **form: str) -> Answer:
        """Submit a form."""
        fields = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.request("POST", path, urlencode(form).encode(), fields)

    def events(self, after: int = 0) -> Generator[tuple[int, str, Any], None, None]:
        """Yield number, kind and data of each event: the stored events first, then new ones."""
        deadline = time.monotonic() + SECONDS
        with closing(self.connection()) as connection:
            connection.request("GET", "/events", headers={"Last-Event-ID": str(after)})
            response, fields = connection.getresponse(), dict[str, str]()
            while time.monotonic() < deadline and (line := response.readline().decode("utf-8")):
                name, _, value = line.rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    yield int(fields["id"]), fields["event"], json.loads(fields["data"])
                    fields = {}
        raise TimeoutError

    def wait_for(self, kind: str, fits: Callable[[Any], bool]) -> tuple[int, Any]:
        """Return the number and data of the first event that fits, which may be a stored one."""
        try:
            for number, found, data in self.events():
                if found == kind and fits(data):
                    return number, data
        except TimeoutError:
            raise TimeoutError(f"the event stream did not show such a {kind!r} event") from None
        raise AssertionError("unreachable")

    def where(self, piece: str) -> Any:
        """Return where a piece ran last."""
        return self.wait_for("ran", lambda ran: ran["piece"] == piece)[1]["where"]

    @contextmanager
    def user(self, letter: str) -> Iterator[User]:
        """Join the chat."""
        nick = f"{letter}{self.mark}"
        with connect(f"ws://127.0.0.1:{self.port}/chat?nick={nick}") as socket:
            yield User(nick, socket)


@dataclass(frozen=True, slots=True)
class User:
    """A user of the chat, on a WebSocket."""

    nick: str
    socket: ClientConnection

    def say(self, text: str) -> None:
        self.socket.send(f"{NICK}: {text}")

    def hear(self) -> str:
        """Return the bot's next answer."""
        while not (line := str(self.socket.recv(SECONDS))).startswith(f"{NICK}: "):
            pass
        return line.partition(": ")[2]

    def ask(self, text: str) -> str:
        self.say(text)
        return self.hear()


Step = Callable[[Visit], str]


def own_wheels(visit: Visit) -> str:
    """Require that the nine distributions come from wheels built here, not from an index."""
    names = sorted(set(importlib.metadata.packages_distributions()["asgiref"]))
    require(len(names) == 9, f"these are installed: {', '.join(names)}")
    for name in names:
        origin = importlib.metadata.distribution(name).read_text("direct_url.json") or "{}"
        url = json.loads(origin).get("url", "")
        local_wheel = url.startswith("file:") and url.endswith(".whl")
        require(local_wheel, f"{name} was not installed from a wheel built here")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return "from wheels built here: " + ", ".join(versions)


def page(visit: Visit) -> str:
    """Require that Flask serves the page, and that every link into the repository works."""
    answer = visit.request("GET", "/")
    require(answer.status == 200, f"status {answer.status}")
    text = answer.body.decode()
    require("Guestbook" in text and NICK in text, "a part of it is missing")
    require("http://" not in text, "it loads something from another host")
    links = re.findall(r'href="(/repository/[^"]+)"', text)
    for link in links:
        status = visit.request("GET", link).status
        require(status == 200, f"the link {link} was answered with status {status}")
    secret = visit.request("GET", "/repository/demo/%2e%2e/.git/config").status
    require(secret == 404, f"a file outside the shown folders: status {secret}")
    return f"{len(answer.body)} bytes of HTML; {len(links)} links into the repository work"


def guestbook(visit: Visit) -> str:
    """Sign the guestbook with the form, and require the escaped text on the page."""
    text = f"Grüße <b>{visit.mark}</b>"
    answer = visit.post("/guestbook", name="The check", text=text)
    require(answer.status == 303, f"the form was answered with status {answer.status}")
    shown = visit.request("GET", answer.headers["location"].partition("#")[0]).body.decode()
    require(html.escape(text) in shown, "the entry cannot be read back")
    require(text not in shown, "the entry's HTML is not escaped")
    refused = visit.post("/guestbook", name="", text="").status
    require(refused == 400, f"an empty entry was answered with status {refused}")
    visit.wait_for("guestbook", lambda entry: entry["text"] == text)
    return f"303 and back to the page, which shows {text!r} escaped; an empty entry gets a 400"


def upload(visit: Visit) -> str:
    """Require that Flask reads the first half of an upload before the second half is sent."""
    content = secrets.token_bytes(UPLOAD_BYTES)

    def halves() -> Iterator[bytes]:
        half = len(content) // 2
        yield content[:half]
        visit.where("Streamed upload")
        yield content[half:]

    answer = visit.request("PUT", "/upload", halves())
    require(answer.status == 200, f"status {answer.status}")
    read = json.loads(answer.body)
    same = read["sha256"] == hashlib.sha256(content).hexdigest()
    require(same, "the bytes that arrived differ from those that were sent")
    return f"{read['size']} bytes, read on {read['where']['thread']} as they arrived"


def download(visit: Visit) -> str:
    """Read a response that is generated during the transfer, and abandon another one early."""
    answer = visit.request("GET", "/sample/16")
    require(answer.headers["transfer-encoding"] == "chunked", "it was not sent in chunks")
    require(answer.body == b"".join(made_up(16)), "the bytes are wrong")
    with closing(visit.connection()) as connection:
        connection.request("GET", "/sample/1024")
        start = len(connection.getresponse().read(1 << 20))
        require(start == 1 << 20, "the long sample broke off early")
    require(visit.request("GET", "/").status == 200, "a visitor who left broke the next request")
    return "16 MiB in chunks, as they were generated; one of 1 GiB abandoned harmlessly after 1 MiB"


def bridge(visit: Visit) -> str:
    """Cross the bridge eight times at once: each view keeps its thread and its ``Local``."""
    names = [f"{letter}{visit.mark}" for letter in "efghijkl"]
    with ThreadPoolExecutor(len(names)) as pool:
        path = "/bridge/cross?name="
        answers = [
            json.loads(a.body) for a in pool.map(lambda n: visit.request("GET", path + n), names)
        ]
    for name, answer in zip(names, answers, strict=True):
        view, coroutine, function = (answer[key] for key in ("view", "coroutine", "function"))
        require(answer["names"] == [name] * 2, f"the Local of {name} held {answer['names']}")
        require(view["loop"] == function["loop"] == "", "a synchronous step ran on an event loop")
        require(coroutine["loop"] == "uvicorn's loop", f"the coroutine ran on {coroutine['loop']}")
        back = view["thread_id"] == function["thread_id"]
        require(back, f"{view['thread']} left, and the function ran on {function['thread']}")
    return f"{len(names)} Django views went to uvicorn's loop and came back, each with its Local"


def speed(visit: Visit) -> str:
    """Time the bridge, and asgiref 3.13.0 on the same machine if it is installed."""
    runs = json.loads(visit.request("POST", "/bridge/speed").body)["runs"]
    own = importlib.metadata.version("asgiref")
    require(runs[0]["version"] == own, f"{runs[0]['version']} was timed, not {own}")
    require([run["version"] for run in runs[1:]] in ([], ["3.13.0"]), "3.13.0 was not timed")
    calls = "{version}: {sync_to_async} µs for sync_to_async, {async_to_sync} µs for async_to_sync"
    return "; ".join(calls.format(**run) for run in runs)


def helpers(visit: Visit) -> str:
    """Play with the bot's application in memory, with ``asgiref.testing``."""

    async def play(path: Path) -> list[str]:
        scope, answers = {"type": "chat", "user": "ann", "game": f"ann:{visit.mark}"}, list[str]()
        async with ApplicationCommunicator(GuessingGame(path), scope) as application:
            for number, text in enumerate(["50", "history"]):
                message = {"type": "chat.message", "text": text, "number": number}
                await application.send_input(message)
                answers.append((await application.receive_output(SECONDS))["text"])
        return answers

    with tempfile.TemporaryDirectory() as folder:
        first, second = asyncio.run(play(Path(folder, "games")))
    require(second == "your guesses: 50", f"after {first!r}, the answer was {second!r}")
    return f"the bot's application, without a server: {first!r}"


def _play(user: User) -> Iterator[int]:
    """Play by bisection; yield each guess, whose answer must belong to this user's game."""
    low, high = 1, 100
    for count in itertools.count(1):
        guess = (low + high) // 2
        answer = user.ask(str(guess))
        if not re.search(rf"^{guess} is .*\b{count}( guesses!|\)\.)$", answer):
            raise Complaint(f"guess {count} of {user.nick}, {guess}, was answered: {answer}")
        yield guess
        if "right" in answer:
            return
        low, high = (guess + 1, high) if "low" in answer else (low, guess - 1)


def chat(visit: Visit) -> str:
    """Let two users play alternately; neither may see the other's game."""
    with visit.user("a") as ann, visit.user("b") as ben:
        rounds = list(itertools.zip_longest(_play(ann), _play(ben)))
        for user, guesses in zip((ann, ben), zip(*rounds, strict=True), strict=True):
            told, own = user.ask("history"), ", ".join(str(each) for each in guesses if each)
            require(told == f"your guesses: {own}", f"{user.nick} was told {told!r}, not {own}")
        best = ann.ask("best")
        require("The best so far:" in best, best)
        with visit.user("a") as eve, suppress(ConnectionClosed):
            eve.hear()
        require(eve.socket.close_code == REFUSED, "a nickname in use was not refused")
    with visit.user("a") as ann:
        told = ann.ask("history")
        require(told == "your guesses: none yet", f"after leaving and coming back: {told!r}")
    return f"{len(rounds)} guesses in turns; each history holds only that user's guesses; {best!r}"


def event_stream(visit: Visit) -> str:
    """Require the conversation in the stream, which continues where a browser left off."""
    number, _ = visit.wait_for("chat", lambda line: "is right after" in line["text"])
    with closing(visit.events(number - 1)) as stream:
        first = next(stream)[0]
    require(first == number, f"event {first} came after event {number - 1}")
    return f"it showed the conversations, and continued after event {number - 1}"


def threads_and_loops(visit: Visit) -> str:
    """Require that every piece ran on its own thread and loop."""
    asgi, flask = visit.where("ASGI application (uvicorn)"), visit.where("Flask view (WsgiToAsgi)")
    bot = visit.where("StatelessServer.handle")
    sqlite = visit.where("Game in SQLite (sync_to_async)")
    require(asgi["loop"] == "uvicorn's loop", f"the ASGI application runs on {asgi['loop']}")
    require(bot["loop"] == "bot's loop", f"the bot runs on {bot['loop']}")
    for name, where in {"a Flask view": flask, "sync_to_async": sqlite}.items():
        own = where["thread_id"] not in (asgi["thread_id"], bot["thread_id"])
        require(own and where["loop"] == "", f"{name} blocks the loop of {where['thread']}")
    for nick in (f"{letter}{visit.mark}" for letter in "ab"):
        visit.wait_for("chat", partial(_in_task, f"scope of {nick}"))
    return (
        f"uvicorn on {asgi['thread']}, Flask on {flask['thread']}, bot on {bot['thread']}, "
        f"sync_to_async on {sqlite['thread']}; a task for each scope"
    )


def _in_task(name: str, line: Any) -> bool:
    return bool(line["where"]["task"] == name)


def guards(visit: Visit) -> str:
    """Require that the demo refuses requests that another site could have made."""
    rebound, foreign = {"Host": "rebound.example"}, {"Origin": "http://rebound.example"}
    answers = [
        visit.request("GET", "/", headers=rebound).status,
        visit.post("/guestbook", foreign, name="eve", text="hello").status,
        visit.post("/kill", foreign, worker="worker-1").status,
        visit.post("/kill", rebound, worker="worker-1").status,
    ]
    try:
        with connect(f"ws://127.0.0.1:{visit.port}/chat?nick=eve", additional_headers=foreign):
            answers.append(101)
    except InvalidStatus as refused:
        answers.append(refused.response.status_code)
    require(set(answers) == {403}, f"foreign requests were answered with {answers}")
    for name in ("1", "", "worker-0", "../worker-1"):
        status = visit.post("/kill", worker=name).status
        require(status == 409, f"killing {name!r} was answered with {status}")
    status = visit.request("GET", "/kill?worker=worker-1").status
    require(status == 405, f"a kill by GET was answered with {status}")
    return "another site and a foreign Host header get a 403, a kill of any other process a 409"


def workers_share(visit: Visit) -> str:
    """Require that every worker runs and owns partitions, and that the page shows them."""
    shown = visit.request("GET", "/").body
    require(b"Who owns which scope" in shown, "the page does not show the workers")
    fleet = visit.wait_for("fleet", _all_work)[1]
    shares = [len(_owned_by(fleet, worker["name"])) for worker in fleet["workers"]]
    status = visit.post("/kill", worker=str(fleet["workers"][0]["pid"])).status
    require(status == 409, f"a kill by process id was answered with {status}")
    return f"{len(shares)} workers own {shares} partitions"


def kill_a_worker(visit: Visit) -> str:
    """Kill a worker with unfinished guesses; require one answer to each, in order.

    The user's answers decide whether this passes. The page serves only to choose the worker, and
    must show the new owner and the new worker.
    """
    with visit.user("k") as user:
        user.ask("new")
        while "right" in user.ask("50"):  # from here on, 50 is wrong
            user.ask("new")
        _, fleet = visit.wait_for("fleet", lambda f: _owner_of(f, user.nick) != "")
        killed = _owner_of(fleet, user.nick)
        for _ in range(GUESSES):
            user.say("50")
        answers = [user.hear() for _ in range(KILL_AFTER)]
        status = visit.post("/kill", worker=killed).status
        require(status == 200, f"the kill was answered with {status}")
        answers += [user.hear() for _ in range(GUESSES - KILL_AFTER)]
        numbers = [int(number) for number in re.findall(r"\(guess (\d+)\)", " ".join(answers))]
        require(numbers == list(range(2, GUESSES + 2)), f"the answers were {answers}")
        told, own = user.ask("history"), ", ".join(["50"] * (GUESSES + 1))
        require(told == f"your guesses: {own}", f"the guesses were {told!r}")
        _, fleet = visit.wait_for("fleet", lambda f: _owner_of(f, user.nick) not in ("", killed))
    heir, again = _owner_of(fleet, user.nick), fleet["redelivered"]
    visit.wait_for("fleet", lambda f: _all_work(f) and killed not in _names(f))
    return (
        f"{killed} killed after answer {KILL_AFTER}; {heir} gave the rest of {GUESSES}, in order "
        f"({again} of the answers were to redelivered messages); a new worker started"
    )


def _all_work(fleet: Any) -> bool:
    """Whether every worker is running and owns a partition, and every partition has an owner."""
    owners = {partition["owner"] for partition in fleet["partitions"]}
    return owners == _names(fleet) and all(each["life"] == "works" for each in fleet["workers"])


def _names(fleet: Any) -> set[str]:
    return {worker["name"] for worker in fleet["workers"]}


def _owned_by(fleet: Any, worker: str) -> list[int]:
    return [each["number"] for each in fleet["partitions"] if each["owner"] == worker]


def _owner_of(fleet: Any, user: str) -> str:
    found = (each["owner"] for each in fleet["partitions"] if user in each["users"])
    return str(next(found, ""))


STEPS: tuple[Step, ...] = (own_wheels, page, guestbook, upload, download, bridge, speed, helpers)
STEPS += (chat, event_stream, threads_and_loops, guards)
FLEET_STEPS: tuple[Step, ...] = (page, workers_share, chat, guards, kill_a_worker)


def run(
    settings: Settings,
    say: Callable[[str], object],
    steps: Sequence[Step] = STEPS,
    make_game: Callable[[Path], GuessingGame] = GuessingGame,
) -> int:
    """Run the demo and the steps, report each result with ``say``, and return the exit code."""
    failed, before = 0, set(threading.enumerate())
    try:
        with running(settings, make_game=make_game) as port:
            say(f"The demo runs on http://127.0.0.1:{port}/")
            visit = Visit(port, secrets.token_hex(4))
            failed = sum(not _passes(step, visit, say) for step in steps)
        left = PIECES & {each.name for each in set(threading.enumerate()) - before}
        if left:
            raise PieceFailed(f"still running: {', '.join(sorted(left))}")
        say("ok    ending: every piece has ended")
    except (PieceFailed, OSError) as failure:
        failed += 1
        say(f"FAIL  the demo itself: {failure}")
    say(f"{len(steps) + 1 - failed} steps passed, {failed} failed")
    return 1 if failed else 0


def _passes(step: Step, visit: Visit, say: Callable[[str], object]) -> bool:
    name = step.__name__.replace("_", " ")
    try:
        say(f"ok    {name}: {step(visit)}")
    except Exception as failure:  # any exception is a failure of its step
        reason = str(failure) if isinstance(failure, Complaint) else repr(failure)
        say(f"FAIL  {name}: {reason}")
        return False
    return True
