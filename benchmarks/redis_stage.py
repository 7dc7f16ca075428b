"""Where `redis_streams` measures: a Redis, and for each way a producer and its consumers.

All processes of a case are there from the beginning to the end of it, so rounds can alternate
between the ways; those that are not asked for anything wait, and take next to nothing.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis_messages import Case, Order, Times, Way
from redis_results import ROLES, Carried

__all__ = ["Setting", "Stage", "client_of", "staged"]

CASES_FILE = Path(__file__).with_name("redis_cases.py")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seconds after which something that should have come will not come any more.
PATIENCE = 120.0
POLL = 0.005
#: Entries that were handled and not acknowledged.
PENDING = """
local pending = 0
for _, stream in ipairs(redis.call('KEYS', ARGV[1])) do
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    for i = 1, #group, 2 do if group[i] == 'pending' then pending = pending + group[i + 1] end end
  end
end
return pending
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all ways.

    Attributes:
        pythons: the one that runs each way.
        fsync: how often Redis writes to its disk: ``everysec``, ``always`` or ``no``.
        parser: ``hiredis``, or ``python`` for redis-py's own.
    """

    pythons: Mapping[Way, str]
    fsync: str = "everysec"
    parser: str = "hiredis"


@contextmanager
def redis_server(fsync: str) -> Iterator[tuple[str, int]]:
    """A server of its own; gives its URL and the id of its process."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        options = ["--port", str(port), "--dir", folder, "--save", ""]
        # A file that is written anew in some round would be a cost of that round only.
        options += ["--appendonly", "yes", "--appendfsync", fsync]
        options += ["--auto-aof-rewrite-percentage", "0"]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}"
            with redis.Redis.from_url(url) as client:
                until(lambda: answers(client), "redis-server does not start")
            yield url, server.pid
        finally:
            server.terminate()
            server.wait()


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def until(reached: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > end:
            sys.exit(otherwise)
        time.sleep(POLL)


class Troupe:
    """The processes of one way."""

    def __init__(self, way: Way, case: Case, url: str, setting: Setting) -> None:
        self.way = way
        self.times = Times()
        self._case = case
        self._next = 0
        self._program = [setting.pythons[way], str(CASES_FILE), way]
        numbers = (self.times.descriptor, case.workers, case.scopes)
        self._arguments = [url, *map(str, numbers), setting.parser]
        self.producer = self._begin("produce")
        self.consumers: list[subprocess.Popen[str]] = []

    def _begin(self, role: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self._program, role, *self._arguments],
            pass_fds=[self.times.descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin_consumers(self) -> None:
        self.expect(self.producer, "ready")
        self.consumers = [self._begin("consume") for _ in range(self._case.workers)]

    def wait_for_consumers(self) -> None:
        for consumer in self.consumers:
            self.expect(consumer, "ready")

    def expect(self, process: "subprocess.Popen[str]", line: str) -> None:
        assert process.stdout is not None
        if (found := process.stdout.readline().rstrip()) != line:
            sys.exit(f"{self.way}: a process said {found!r} instead of {line!r}")

    def carry(self, messages: int, rate: float) -> Order:
        """Have so many messages carried; returns when all have been received."""
        order = Order(self._next, messages, rate)
        self._next += messages
        assert self.producer.stdin is not None
        print(order, file=self.producer.stdin, flush=True)
        missing = order.first

        def all_received() -> bool:
            nonlocal missing
            found = self.times.missing(order, missing)
            missing = order.first + order.messages if found is None else found
            return found is None

        until(all_received, f"{self.way}: a message was not received in {PATIENCE:.0f} seconds")
        self.expect(self.producer, "sent")
        return order

    def close(self) -> None:
        for process in (self.producer, *self.consumers):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
        os.close(self.times.descriptor)


class Stage:
    """One case, set up for all ways."""

    def __init__(self, case: Case, url: str, server: int, setting: Setting) -> None:
        self._server = server
        self._client = redis.Redis.from_url(url)
        self._troupes = {way: Troupe(way, case, url, setting) for way in setting.pythons}
        try:
            for troupe in self._troupes.values():
                troupe.begin_consumers()
            for troupe in self._troupes.values():
                troupe.wait_for_consumers()
        except BaseException:
            self.close()
            raise

    def carry(self, way: Way, messages: int, rate: float = 0) -> Carried:
        """Have messages carried, as fast as can be or at a rate."""
        troupe = self._troupes[way]
        before = self._computed(troupe)
        order = troupe.carry(messages, rate)
        after = self._computed(troupe)
        took = {role: after[role] - before[role] for role in ROLES}
        self._settle(troupe, order)
        times = troupe.times
        return Carried(times.seconds(order), times.latencies(order), took, times.duplicates(order))

    def _computed(self, troupe: Troupe) -> dict[str, float]:
        consumers = [each.pid for each in troupe.consumers]
        groups = [troupe.producer.pid], [self._server], consumers
        return dict(zip(ROLES, map(processor_seconds, groups), strict=True))

    def _settle(self, troupe: Troupe, order: Order) -> None:
        """Wait until everything is acknowledged, and nothing comes again any more."""
        if troupe.way is Way.CHANNELS:
            self._settle_channels(troupe, order)
            return
        streams = {Way.OURS: "asgiref:*:in", Way.BARE: "bare"}[troupe.way]
        script = self._client.register_script(PENDING)
        until(lambda: not script(args=[streams]), f"{troupe.way}: messages stay unacknowledged")
        if duplicates := troupe.times.duplicates(order):
            sys.exit(f"{troupe.way}: {duplicates} messages were received more than once")
        if troupe.way is Way.BARE:
            self._client.xtrim("bare", maxlen=0, approximate=False)

    def _settle_channels(self, troupe: Troupe, order: Order) -> None:
        """The workers of a channel give back what others of them have in hand: that comes again."""
        channel, in_hand = "asgibench", "asgibench$inflight"
        before = -1

        def rests() -> bool:
            nonlocal before
            time.sleep(10 * POLL)
            last, before = before, troupe.times.duplicates(order)
            return before == last and not self._client.zcard(channel)

        until(rests, "Channels does not come to rest")
        self._client.delete(channel, in_hand)

    def memory(self, way: Way) -> int:
        """Bytes that the consumers of a way have in memory."""
        return sum(resident(each.pid) for each in self._troupes[way].consumers)

    def close(self) -> None:
        for troupe in self._troupes.values():
            troupe.close()
        self._client.close()


@contextmanager
def staged(case: Case, setting: Setting) -> Iterator[Stage]:
    with redis_server(setting.fsync) as (url, server):
        stage = Stage(case, url, server, setting)
        try:
            yield stage
        finally:
            stage.close()


def processor_seconds(processes: Sequence[int]) -> float:
    """What processes have computed so far, in user code and in the kernel."""
    total = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text("utf-8").split()[1]) * PAGE


def client_of(python: str, parser: str) -> str:
    """Which client of Redis a Python has: ``redis-py 8.1.0 with hiredis 3.4.0``."""
    program = (
        "import importlib.metadata as m, importlib.util as u\n"
        "print('redis-py', m.version('redis'), end='')\n"
        f"wanted = {parser == 'hiredis'} and u.find_spec('hiredis')\n"
        "print(' with hiredis ' + m.version('hiredis') if wanted else ' without hiredis')"
    )
    command = [python, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
