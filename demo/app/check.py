"""``--check``: visit everything over real HTTP and WebSockets, and judge the observations.

Each step is a function that raises `Complaint` if it finds a fault, and otherwise returns its
observation. Steps use the traces of earlier steps, so their order matters; a failed step does not
stop the others. `run` returns 0 only if every step passed and the demo ended properly.
"""

import hashlib
import html
import importlib.metadata
import itertools
import json
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import own_postgres  # from tools/
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .bot import NICK
from .chat import REFUSED
from .demo import PieceFailed, running
from .guestbook import made_up
from .options import HOST, Settings

SECONDS = 20.0
UPLOAD_BYTES = 8 << 20
PIECES = ["ASGI application (uvicorn)", "StatelessServer.handle"]
PIECES += ["Flask view (WsgiToAsgi)", "Game in SQLite (sync_to_async)"]
GUESSES = 40
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
UPGRADE["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
KILL_AFTER = 5
"""The number of answers before the kill, so that the worker dies in the middle of its work."""


class Complaint(Exception):
    """The check found a fault."""


def require(condition: bool, complaint: str) -> None:
    """Raise `Complaint` unless the condition holds."""
    if not condition:
        raise Complaint(complaint)


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


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit to the demo; ``mark`` distinguishes its traces from those of others."""

    port: int
    http: httpx.Client
    mark: str

    def expect(self, status: int, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, and require this status of the response."""
        answer = self.http.request(method, path, **options)
        got = f"{method} {path} {options} was answered with status {answer.status_code}"
        require(answer.status_code == status, got)
        return answer

    def events(self, after: int = 0) -> Generator[tuple[int, str, Any], None, None]:
        """Yield number, kind and data of each event: the stored events first, then new ones."""
        headers = {"Last-Event-ID": str(after)}
        with self.http.stream("GET", "/events", headers=headers) as response:
            fields = dict[str, str]()
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                fields[name] = value
                if not name:
                    yield int(fields["id"]), fields["event"], json.loads(fields["data"])

    def wait_for(self, kind: str, fits: Callable[[Any], bool]) -> tuple[int, Any]:
        """Return the number and data of the first event that fits, which may be a stored one."""
        deadline = time.monotonic() + SECONDS
        with suppress(httpx.ReadTimeout), closing(self.events()) as events:
            for number, found, data in events:
                if found == kind and fits(data):
                    return number, data
                if time.monotonic() > deadline:
                    break
        raise Complaint(f"the event stream did not show such a {kind!r} event")

    def where(self, piece: str) -> Any:
        """Return where a piece ran last."""
        return self.wait_for("ran", lambda ran: ran["piece"] == piece)[1]["where"]

    @contextmanager
    def user(self, letter: str) -> Iterator[User]:
        """Join the chat."""
        nick = f"{letter}{self.mark}"
        with connect(f"ws://{HOST}:{self.port}/chat?nick={nick}") as socket:
            yield User(nick, socket)


def own_wheels(visit: Visit) -> str:
    """Require that the nine distributions come from wheels built here, not from an index."""
    names = sorted(set(importlib.metadata.packages_distributions()["asgiref"]))
    require(len(names) == 9, f"these are installed: {', '.join(names)}")
    for name in names:
        origin = importlib.metadata.distribution(name).read_text("direct_url.json") or ""
        is_local = re.search(r'"url": *"file:[^"]+\.whl"', origin) is not None
        require(is_local, f"{name} was not installed from a wheel built here")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return "from wheels built here: " + ", ".join(versions)


def page(visit: Visit) -> str:
    """Require that Flask serves the page, and that every link into the repository works."""
    answer = visit.expect(200, "GET", "/")
    require("Guestbook" in answer.text and NICK in answer.text, "a part of it is missing")
    require("http://" not in answer.text, "it loads something from another host")
    links = re.findall(r'href="(/repository/[^"]+)"', answer.text)
    for link in links:
        visit.expect(200, "GET", link)
    visit.expect(404, "GET", "/repository/demo/%2e%2e/.git/config")  # outside the shown folders
    return f"{len(answer.content)} bytes of HTML; {len(links)} links into the repository work"


def guestbook(visit: Visit) -> str:
    """Sign the guestbook with the form, and require the escaped text on the page."""
    text = f"Grüße <b>{visit.mark}</b>"
    answer = visit.expect(303, "POST", "/guestbook", data={"name": "The check", "text": text})
    shown = visit.expect(200, "GET", answer.headers["location"]).text
    require(html.escape(text) in shown, "the entry cannot be read back")
    require(text not in shown, "the entry's HTML is not escaped")
    visit.expect(400, "POST", "/guestbook", data={"name": "", "text": ""})
    visit.wait_for("guestbook", lambda entry: entry["text"] == text)
    return f"303 and back to the page, which shows {text!r} escaped; an empty entry gets a 400"


def upload(visit: Visit) -> str:
    """Require that Flask reads the first half of an upload before the second half is sent."""
    first, second = (secrets.token_bytes(UPLOAD_BYTES // 2) for _ in range(2))

    def halves() -> Iterator[bytes]:
        yield first
        visit.where("Streamed upload")
        yield second

    read = visit.http.put("/upload", content=halves()).json()
    same = read["sha256"] == hashlib.sha256(first + second).hexdigest()
    require(same, "the bytes that arrived differ from those that were sent")
    return f"{read['size']} bytes, read on {read['where']['thread']} as they arrived"


def download(visit: Visit) -> str:
    """Read a response that is generated during the transfer, and abandon another one early."""
    answer = visit.http.get("/sample/16")
    require(answer.headers.get("transfer-encoding") == "chunked", "it was not sent in chunks")
    require(answer.content == b"".join(made_up(16)), "the bytes are wrong")
    with visit.http.stream("GET", "/sample/1024") as stream:
        require(len(next(stream.iter_bytes(1 << 20))) == 1 << 20, "the long sample broke off early")
    visit.expect(200, "GET", "/")  # a visitor who leaves breaks no later request
    return "16 MiB in chunks, as they were generated; one of 1 GiB abandoned harmlessly after 1 MiB"


def bridge(visit: Visit) -> str:
    """Cross the bridge eight times at once: each view keeps its thread and its ``Local``."""
    names = [f"{letter}{visit.mark}" for letter in "efghijkl"]
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda n: visit.http.get(f"/bridge/cross?name={n}").json(), names))
    for name, answer in zip(names, answers, strict=True):
        view, coroutine, function = (answer[key] for key in ("view", "coroutine", "function"))
        require(answer["names"] == [name] * 2, f"the Local of {name} held {answer['names']}")
        loops = [where["loop"] for where in (view, coroutine, function)]
        require(loops == ["", "uvicorn's loop", ""], f"the steps ran on the loops {loops}")
        back = view["thread_id"] == function["thread_id"]
        require(back, f"{view['thread']} left, and the function ran on {function['thread']}")
    return f"{len(names)} Django views went to uvicorn's loop and came back, each with its Local"


def speed(visit: Visit) -> str:
    """Time the bridge, and asgiref 3.13.0 on the same machine if it is installed."""
    runs = visit.http.post("/bridge/speed").json()["runs"]
    own = importlib.metadata.version("asgiref")
    versions = [run["version"] for run in runs]
    require(versions in ([own], [own, "3.13.0"]), f"these versions were timed: {versions}")
    calls = "{version}: {sync_to_async} µs for sync_to_async, {async_to_sync} µs for async_to_sync"
    return "; ".join(calls.format(**run) for run in runs)


def _play(user: User) -> Iterator[int]:
    """Play by bisection; yield each guess, whose answer must belong to this user's game."""
    low, high = 1, 100
    for count in itertools.count(1):
        guess = (low + high) // 2
        answer = user.ask(str(guess))
        right = re.search(rf"^{guess} is .*\b{count}( guesses!|\)\.)$", answer) is not None
        require(right, f"guess {count} of {user.nick}, {guess}, was answered: {answer}")
        yield guess
        if "right" in answer:
            return
        low, high = (guess + 1, high) if "low" in answer else (low, guess - 1)


def _require_history(user: User, guesses: Sequence[int | None]) -> None:
    own = ", ".join(str(guess) for guess in guesses if guess) or "none yet"
    told = user.ask("history")
    require(told == f"your guesses: {own}", f"{user.nick} was told {told!r}, not {own}")


def chat(visit: Visit) -> str:
    """Let two users play alternately; neither may see the other's game."""
    with visit.user("a") as ann, visit.user("b") as ben:
        rounds = list(itertools.zip_longest(_play(ann), _play(ben)))
        for user, guesses in zip((ann, ben), zip(*rounds, strict=True), strict=True):
            _require_history(user, guesses)
        with visit.user("a") as eve, suppress(ConnectionClosed):
            eve.hear()
        require(eve.socket.close_code == REFUSED, "a nickname in use was not refused")
    with visit.user("a") as ann:
        _require_history(ann, ())  # she left, and came back to a new game
    return f"{len(rounds)} guesses in turns; each history holds only that user's guesses"


def event_stream(visit: Visit) -> str:
    """Require the conversation in the stream, which continues where a browser left off."""
    number, _ = visit.wait_for("chat", lambda line: "is right after" in line["text"])
    with closing(visit.events(number - 1)) as stream:
        first = next(stream)[0]
    require(first == number, f"event {first} came after event {number - 1}")
    return f"it showed the conversations, and continued after event {number - 1}"


def threads_and_loops(visit: Visit) -> str:
    """Require that every piece ran on its own thread and loop."""
    places = [visit.where(piece) for piece in PIECES]
    loops = [place["loop"] for place in places]
    require(loops == ["uvicorn's loop", "bot's loop", "", ""], f"they ran on the loops {loops}")
    threads = [f"{place['thread']} #{place['thread_id']}" for place in places]
    require(len(set(threads)) == len(threads), f"they ran on the threads {threads}")
    visit.wait_for("chat", lambda line: line["where"]["task"] == f"scope of a{visit.mark}")
    visit.wait_for("chat", lambda line: line["where"]["task"] == f"scope of b{visit.mark}")
    return f"uvicorn, bot, Flask and SQLite on {', '.join(threads)}; a task for each scope"


def guards(visit: Visit) -> str:
    """Require that the demo refuses requests that another site could have made."""
    rebound, foreign = {"Host": "rebound.example"}, {"Origin": "http://rebound.example"}
    kill, entry = {"worker": "worker-1"}, {"name": "eve", "text": "hello"}
    visit.expect(403, "GET", "/", headers=rebound)
    visit.expect(403, "POST", "/guestbook", headers=foreign, data=entry)
    visit.expect(403, "POST", "/kill", headers=foreign, data=kill)
    visit.expect(403, "POST", "/kill", headers=rebound, data=kill)
    visit.expect(403, "GET", "/chat?nick=eve", headers={**UPGRADE, **foreign})
    for name in ("1", "", "worker-0", "../worker-1"):
        visit.expect(409, "POST", "/kill", data={"worker": name})
    visit.expect(405, "GET", "/kill?worker=worker-1")
    return "another site and a foreign Host header get a 403, a kill of any other process a 409"


def workers_share(visit: Visit) -> str:
    """Require that every worker runs and owns partitions, and that the page shows them."""
    require("Who owns which scope" in visit.http.get("/").text, "the page does not show them")
    _, fleet = visit.wait_for("fleet", _all_work)
    visit.expect(409, "POST", "/kill", data={"worker": fleet["workers"][0]["pid"]})
    shares = list(_shares(fleet).values())
    return f"{len(shares)} workers own {shares} partitions"


def kill_a_worker(visit: Visit) -> str:
    """Kill a worker with unfinished guesses; require one answer to each, in order.

    The user's answers decide whether this passes. The page serves only to choose the worker, and
    must show the new owner and the new worker.
    """
    with visit.user("k") as user:
        while "right" in user.ask("50"):
            user.ask("new")
        # From here on, 50 is wrong.
        _, fleet = visit.wait_for("fleet", lambda fleet: _owner_of(fleet, user.nick) != "")
        killed = _owner_of(fleet, user.nick)
        for _ in range(GUESSES):
            user.say("50")
        answers = [user.hear() for _ in range(KILL_AFTER)]
        visit.expect(200, "POST", "/kill", data={"worker": killed})
        answers += [user.hear() for _ in range(GUESSES - KILL_AFTER)]
        numbers = [int(number) for number in re.findall(r"\(guess (\d+)\)", " ".join(answers))]
        require(numbers == list(range(2, GUESSES + 2)), f"the answers were {answers}")
        _require_history(user, [50] * (GUESSES + 1))
        _, fleet = visit.wait_for("fleet", lambda f: _owner_of(f, user.nick) not in ("", killed))
    heir, again = _owner_of(fleet, user.nick), fleet["redelivered"]
    visit.wait_for("fleet", lambda f: _all_work(f) and killed not in _shares(f))
    return (
        f"{killed} killed after answer {KILL_AFTER}; {heir} gave the rest of {GUESSES}, in order "
        f"({again} of the answers were to redelivered messages); a new worker started"
    )


def _shares(fleet: Any) -> dict[str, int]:
    """Return the number of partitions of each worker."""
    owners = [partition["owner"] for partition in fleet["partitions"]]
    return {worker["name"]: owners.count(worker["name"]) for worker in fleet["workers"]}


def _all_work(fleet: Any) -> bool:
    """Whether every worker owns a partition, and every partition has an owner."""
    shares = _shares(fleet).values()
    return all(shares) and sum(shares) == len(fleet["partitions"])


def _owner_of(fleet: Any, user: str) -> str:
    found = (each["owner"] for each in fleet["partitions"] if user in each["users"])
    return str(next(found, ""))


Step = Callable[[Visit], str]
STEPS: tuple[Step, ...] = (own_wheels, page, guestbook, upload, download, bridge, speed, chat)
STEPS += (event_stream, threads_and_loops, guards)
FLEET_STEPS: tuple[Step, ...] = (page, workers_share, chat, guards, kill_a_worker)


def run(settings: Settings, say: Callable[[str], object], steps: Sequence[Step] = STEPS) -> int:
    """Run the demo and the steps, report each result with ``say``, and return the exit code."""
    failed = 0
    try:
        with running(settings) as port:
            say(f"The demo runs on http://{HOST}:{port}/")
            # Without the proxies that the environment may name.
            http = httpx.Client(base_url=f"http://{HOST}:{port}", timeout=SECONDS, trust_env=False)
            with http:
                visit = Visit(port, http, secrets.token_hex(4))
                failed = sum(not _passes(step, visit, say) for step in steps)
        say("ok    ending: every piece has ended")
    except (PieceFailed, own_postgres.NoServer, OSError) as failure:
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
