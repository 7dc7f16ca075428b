"""``--check``: visit everything over real HTTP and IRC, report the observations, and judge them.

Each step is a function that raises ``Complaint`` if it finds a fault, and otherwise returns its
observation. Steps use the traces of earlier steps, so their order matters; a failed step does not
stop the others. ``run`` returns 0 only if every step passed and the demo ended properly.
"""

from __future__ import annotations

import functools
import hashlib
import html
import importlib.metadata
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlencode

from .check_clients import Browser, EventReader, IrcUser
from .demo import Addresses, Demo
from .pieces import PieceFailed

DISTRIBUTIONS = (
    "asgiref",
    "asgiref-sync",
    "asgiref-local",
    "asgiref-compatibility",
    "asgiref-typing",
    "asgiref-server",
    "asgiref-postgres",
    "asgiref-wsgi",
    "asgiref-testing",
)
UPLOAD_BYTES = 8 << 20


class Complaint(Exception):
    """The check found a fault."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The tools of every step. ``mark`` distinguishes this visit's traces from others."""

    addresses: Addresses
    browser: Browser
    events: EventReader
    mark: str

    def user(self, letter: str) -> IrcUser:
        """Return a new chat user; its name has nine characters, the limit of some servers."""
        nick = f"{letter}{self.mark}"
        return IrcUser(self.addresses.irc_host, self.addresses.irc_port, nick)

    def bot(self) -> str:
        """Return the bot's nickname from the page."""
        return str(self.browser.request("GET", "/state.json").json()["chat"]["bot"])


Step = Callable[[Visit], str]


def require(condition: bool, complaint: str) -> None:
    """Raise ``Complaint`` unless the condition holds."""
    if not condition:
        raise Complaint(complaint)


def own_wheels(visit: Visit) -> str:
    """Require that the nine distributions come from wheels built here, not from an index."""
    versions = []
    for name in DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise Complaint(f"{name} is not installed") from None
        origin = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        local_wheel = origin.startswith("file:") and origin.endswith(".whl")
        require(local_wheel, f"{name} was not installed from a wheel built here")
        versions.append(f"{name} {distribution.version}")
    return "from wheels built here: " + ", ".join(versions)


def index_page(visit: Visit) -> str:
    """Require that Flask serves the page."""
    answer = visit.browser.request("GET", "/")
    require(answer.status == 200, f"status {answer.status}")
    require("Guestbook" in answer.text and visit.bot() in answer.text, "a part of it is missing")
    require(
        "http://" not in answer.text.replace(visit.addresses.url, ""), "it loads foreign things"
    )
    return f"status 200, {len(answer.body)} bytes of HTML"


def sign_guestbook(visit: Visit) -> str:
    """Sign the guestbook with the form, and require the escaped text on the page."""
    text = f"Grüße <b>{visit.mark}</b>"
    form = urlencode({"name": "The check", "text": text}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = visit.browser.request("POST", "/guestbook", form, headers)
    require(answer.status == 303, f"the form was answered with status {answer.status}")
    page = visit.browser.request("GET", answer.headers["location"].partition("#")[0]).text
    require(html.escape(text) in page, "the entry cannot be read back")
    require(text not in page, "the entry's HTML is not escaped")
    refused = visit.browser.request("POST", "/guestbook", b"name=&text=", headers)
    require(refused.status == 400, f"an empty entry was answered with status {refused.status}")
    visit.events.wait_for("guestbook", lambda entry: entry["text"] == text)
    return f"303 and back to the page, which shows {text!r} escaped; an empty entry gets a 400"


def stream_upload(visit: Visit) -> str:
    """Require that Flask reads an upload during the transfer: send the second half only then."""
    content = secrets.token_bytes(UPLOAD_BYTES)
    before = visit.events.seen()[-1].number

    def halves() -> Iterator[bytes]:
        half = len(content) // 2
        yield content[:half]
        visit.events.wait_for("ran", lambda ran: ran["piece"] == "Streamed upload")
        yield content[half:]

    answer = visit.browser.request("PUT", f"/files/check-{visit.mark}.bin", halves())
    require(answer.status == 200, f"status {answer.status}")
    stored, sha256 = answer.json(), hashlib.sha256(content).hexdigest()
    require(stored["size"] == len(content), f"{stored['size']} bytes arrived")
    require(stored["sha256"] == sha256, "the bytes that arrived are not those that were sent")
    event = visit.events.wait_for("file", lambda file: file["name"] == stored["name"])
    require(event.number > before, "the event is older than the upload")
    thread = stored["where"]["thread"]
    return (
        f"{len(content)} bytes in chunks, read as they came on {thread}; sha256 {sha256[:12]}… fits"
    )


def stream_download(visit: Visit) -> str:
    """Download the file, and require the same content."""
    answer = visit.browser.request("GET", f"/files/check-{visit.mark}.bin")
    require(answer.status == 200, f"status {answer.status}")
    require(len(answer.body) == UPLOAD_BYTES, f"{len(answer.body)} bytes came back")
    sha256 = hashlib.sha256(answer.body).hexdigest()
    require(answer.headers.get("x-sha256") == sha256, "the bytes are not those that were uploaded")
    return f"{len(answer.body)} bytes came back, sha256 {sha256[:12]}… fits"


def stream_sample(visit: Visit) -> str:
    """Read a response that is made during the transfer, and leave another one in the middle."""
    answer = visit.browser.request("GET", "/sample/16")
    require(answer.headers.get("transfer-encoding") == "chunked", "it was not sent in chunks")
    blocks = (hashlib.sha256(str(n).encode()).digest() * 2048 for n in range(256))
    require(answer.body == b"".join(blocks), "the bytes are not those that should be")
    connection = visit.browser.connection()
    connection.request("GET", "/sample/1024")
    response = connection.getresponse()
    require(len(response.read(1 << 20)) == 1 << 20, "the long sample broke off early")
    response.close()
    connection.close()
    require(visit.browser.request("GET", "/").status == 200, "a visitor who left did harm")
    return "16 MiB in chunks, as they were made; one of 1 GiB left after 1 MiB without harm"


def two_users(visit: Visit) -> str:
    """Let two users play alternately; neither may see the other's game."""
    bot = visit.bot()
    with ExitStack() as stack:
        players = [Player(stack.enter_context(visit.user(letter)), bot) for letter in "ab"]
        while any(not player.won for player in players):
            for player in players:
                player.guess()
        for player in players:
            told = player.user.ask(bot, "history")
            expected = ", ".join(map(str, player.guesses))
            require(told.endswith(f"{player.user.nick}, your guesses: {expected}"), told)
        best = players[0].user.ask(bot, "best")
        require("The best so far:" in best, best)
    counts = " and ".join(f"{p.user.nick} in {len(p.guesses)}" for p in players)
    return f"{counts} guesses; each history holds the own guesses only; {best!r}"


class Player:
    """Plays by halving; complains about answers that do not belong to its own game."""

    def __init__(self, user: IrcUser, bot: str) -> None:
        self.user = user
        self.guesses: list[int] = []
        self.won = False
        self._bot = bot
        self._low, self._high = 1, 100

    def guess(self) -> None:
        if self.won:
            return
        require(self._low <= self._high, f"{self.user.nick}'s answers contradict each other")
        number = (self._low + self._high) // 2
        self.guesses.append(number)
        answer = self.user.ask(self._bot, str(number))
        pattern = rf"{number} is (too low|too high|right).*?(\d+)(\)\.| guesses!)"
        found = re.match(pattern, answer)
        if found is None or int(found[2]) != len(self.guesses):
            raise Complaint(f"{self.user.nick}'s guess {len(self.guesses)} was answered: {answer}")
        self.won = found[1] == "right"
        if found[1] == "too low":
            self._low = number + 1
        else:
            self._high = number - 1


def talk_in_channel(visit: Visit) -> str:
    """Require that the bot answers users in the channel who call it by name."""
    chat = visit.browser.request("GET", "/state.json").json()["chat"]
    with visit.user("c") as user:
        user.send(f"JOIN {chat['channel']}")
        user.wait_for(" 366 ")
        answer = user.ask(chat["channel"], f"{chat['bot']}: history")
    expected = f"{user.nick}: {user.nick}, your guesses: none yet"
    require(answer == expected, f"{answer!r} instead of {expected!r}")
    return repr(answer)


def talk_from_page(visit: Visit) -> str:
    """Join the chat through the page, and require the answer in the event stream."""
    nick = f"d{visit.mark}"
    joined = visit.browser.post_json("/chat/join", nick=nick)
    require(joined.status == 200, f"joining was answered with {joined.status}: {joined.text}")
    again = visit.browser.post_json("/chat/join", nick=nick)
    require(again.status == 409, f"a nickname in use was answered with status {again.status}")
    token = joined.json()["token"]
    said = visit.browser.post_json("/chat/say", token=token, text="history")
    require(said.status == 200, f"saying something was answered with {said.status}")
    heard = visit.events.wait_for("heard", lambda line: line["user"] == nick).data
    require(heard["text"] == f"{nick}, your guesses: none yet", f"the answer was {heard['text']!r}")
    visit.browser.post_json("/chat/leave", token=token)
    late = visit.browser.post_json("/chat/say", token=token, text="history")
    require(late.status == 409, f"who has left was answered with status {late.status}")
    return f"{nick} joined, heard {heard['text']!r} and left; a nickname in use gets a 409"


def event_stream(visit: Visit) -> str:
    """Require both conversations in the stream, which continues where a browser left off."""
    require(visit.events.content_type.startswith("text/event-stream"), visit.events.content_type)
    nicks = [f"{letter}{visit.mark}" for letter in "ab"]
    for nick in nicks:
        visit.events.wait_for("chat", functools.partial(_won, nick))
    heard = visit.events.wait_for("heard", lambda line: line["user"] == f"d{visit.mark}")
    with EventReader(visit.browser, heard.number - 1) as later:
        first = later.wait_for("heard", lambda line: True)
        require(first == heard, "a browser that comes back does not go on where it was")
        require(later.seen()[0].number >= heard.number, "a browser that comes back sees old events")
    return (
        f"it showed the games of {' and '.join(nicks)}, and went on after event {heard.number - 1}"
    )


def _won(nick: str, chat: dict[str, str]) -> bool:
    return chat["user"] == nick and chat["speaker"] != nick and "is right after" in chat["text"]


def threads_and_loops(visit: Visit) -> str:
    """Require that every piece ran on its own thread and loop."""
    ran = {e.data["piece"]: e.data["where"] for e in visit.events.seen() if e.kind == "ran"}
    asgi = ran["ASGI application (uvicorn)"]
    flask = ran["Flask view (WsgiToAsgi)"]
    bot = ran["StatelessServer.handle"]
    sqlite = ran["Best players in SQLite (sync_to_async)"]
    require(asgi["thread"] == "uvicorn", f"uvicorn's loop is on {asgi['thread']}")
    require(asgi["loop"] == "uvicorn's loop", f"the ASGI application runs on {asgi['loop']}")
    require(bot["loop"] == "the bot's loop", f"the bot runs on {bot['loop']}")
    for name, where in {"a Flask view": flask, "sync_to_async": sqlite}.items():
        require(where["loop"] == "", f"{name} runs in the middle of {where['loop']}")
        own = where["thread_id"] not in (asgi["thread_id"], bot["thread_id"])
        require(own, f"{name} blocks the loop of {where['thread']}")
    chats = [e.data for e in visit.events.seen() if e.kind == "chat"]
    answers = [chat for chat in chats if chat["speaker"] != chat["user"]]
    tasks = {
        user: {c["where"]["task"] for c in answers if c["user"] == user}
        for user in (f"a{visit.mark}", f"b{visit.mark}")
    }
    require(all(len(names) == 1 for names in tasks.values()), f"a scope changed its task: {tasks}")
    require(len(set.union(*tasks.values())) == 2, f"two users share a task: {tasks}")
    return (
        f"uvicorn on {asgi['thread']}, Flask on {flask['thread']}, bot on {bot['thread']}, "
        f"sync_to_async on {sqlite['thread']}; a task for each scope"
    )


def guards(visit: Visit) -> str:
    """Require that the demo refuses requests that another site could have made."""
    rebound = visit.browser.request("GET", "/", headers={"Host": "rebound.example"})
    require(rebound.status == 403, f"a foreign Host header was answered with {rebound.status}")
    foreign = {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"}
    crossed = visit.browser.request("POST", "/chat/join", b"{}", foreign)
    require(
        crossed.status == 403, f"a request from another site was answered with {crossed.status}"
    )
    return "a foreign Host header and a request from another site get a 403"


STEPS: Sequence[Step] = (
    own_wheels,
    index_page,
    sign_guestbook,
    stream_upload,
    stream_download,
    stream_sample,
    two_users,
    talk_in_channel,
    talk_from_page,
    event_stream,
    threads_and_loops,
    guards,
)


def run(demo: Demo, say: Callable[[str], object], steps: Sequence[Step] = STEPS) -> int:
    """Run the demo and the steps, report each result with ``say``, and return the exit code."""
    failed, before = 0, set(threading.enumerate())
    try:
        with demo.running() as addresses:
            say(f"The demo runs on {addresses.url}, chat {addresses.irc_host}:{addresses.irc_port}")
            browser = Browser(addresses.http_port)
            with EventReader(browser) as events:
                visit = Visit(addresses, browser, events, secrets.token_hex(4))
                failed = sum(not _content(step, visit, say) for step in steps)
        pieces = {"uvicorn", "fleet", "bot", "irc-server", "own-postgres", "check-events"}
        left = pieces & {t.name for t in threading.enumerate() if t not in before}
        if left:
            raise PieceFailed(f"still running: {', '.join(sorted(left))}")
        say("ok    ending: every piece has ended")
    except (PieceFailed, OSError) as failure:
        failed += 1
        say(f"FAIL  the demo itself: {failure}")
    say(f"{len(steps) + 1 - failed} steps as expected, {failed} not")
    return 1 if failed else 0


def _content(step: Step, visit: Visit, say: Callable[[str], object]) -> bool:
    name = step.__name__.replace("_", " ")
    try:
        say(f"ok    {name}: {step(visit)}")
    except Exception as failure:  # any exception is a failure of its step
        reason = str(failure) if isinstance(failure, Complaint) else repr(failure)
        say(f"FAIL  {name}: {reason}")
        return False
    return True
