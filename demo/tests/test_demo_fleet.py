"""The bot with ``--workers``: the check of the page, the effect of a kill, and the end."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import own_postgres
import pytest
from app import check, check_clients, check_fleet, fleet, main, web
from app.demo import Demo, Settings, why_no_fleet
from app.fleet_bot import FleetBot
from app.game import Event, Scope

DEMO = Path(__file__).resolve().parents[1]
START = (
    "import sys; from pathlib import Path; sys.path.append('../tools'); "
    "from app.main import main; "
    "sys.exit(main(sys.argv[2:], Path(sys.argv[1])))"
)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture(autouse=True)
def postgres() -> None:
    """Skip the test if there is no PostgreSQL; fail in CI, where skips go unread."""
    if reason := why_no_fleet():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def run_check(
    tmp_path: Path, *steps: check.Step, workers: int = 2, database: str | None = None
) -> tuple[int, list[str]]:
    lines: list[str] = []
    settings = Settings(data=tmp_path, port=0, workers=workers, database=database)
    code = check.run(Demo(settings), lines.append, steps)
    return code, [line for line in lines if line.startswith("FAIL")]


def children_of(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            child = int(stat.parent.name)
            found += [child, *children_of(child)]
    return found


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def wait_for_end(pids: list[int], then: Callable[[], object]) -> None:
    """Call ``then``, and wait until all these processes have ended."""
    ends = [os.pidfd_open(pid) for pid in pids]
    then()
    for end in ends:
        assert select.select([end], [], [], 30)[0], "a process outlived the demo"
        os.close(end)


# Kills


def test_a_worker_killed_in_the_middle_costs_no_answer(tmp_path: Path) -> None:
    steps = [each for each in check_fleet.STEPS if each is not check_fleet.kill_is_guarded]
    assert run_check(tmp_path, *steps, workers=3) == (0, [])


def test_the_only_worker_may_be_killed(tmp_path: Path) -> None:
    steps = (check_fleet.kill_a_worker, check_fleet.fleet_returns)
    assert run_check(tmp_path, *steps, workers=1) == (0, [])


def test_nobody_but_the_page_kills(tmp_path: Path) -> None:
    assert run_check(tmp_path, check_fleet.kill_is_guarded) == (0, [])


def test_a_database_that_is_there_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    with own_postgres.own_postgres() as server:
        assert run_check(tmp_path, check_fleet.kill_a_worker, database=server.url) == (0, [])
        assert schemas_of(server.url) == []


def schemas_of(url: str) -> list[str]:
    async def ask() -> list[str]:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'asg%'")
        await connection.close()
        return [row[0] for row in rows]

    return asyncio.run(ask())


# Faults that the check finds


def test_an_answer_that_is_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(self: FleetBot, scope: Scope, message: Event) -> None:
        if "guess 7)" not in message["text"]:
            await intact(self, scope, message)

    intact = FleetBot.application_send
    monkeypatch.setattr(FleetBot, "application_send", forgetful)
    monkeypatch.setattr(check_clients, "SECONDS", 4.0)
    code, complaints = run_check(tmp_path, check_fleet.kill_a_worker)
    assert (code, len(complaints)) == (1, 1)
    assert "kill a worker" in complaints[0]


def test_a_worker_that_is_not_replaced_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_one(visit: check.Visit) -> str:
        assert visit.browser.post_json("/fleet/kill", worker="worker-1").status == 200
        return "killed"

    monkeypatch.setattr(fleet, "REPLACE_SECONDS", 1000)
    monkeypatch.setattr(check_clients, "SECONDS", 1.0)
    code, complaints = run_check(tmp_path, kill_one, check_fleet.fleet_returns)
    assert (code, len(complaints)) == (1, 1)
    assert "fleet returns" in complaints[0]


def test_a_guard_that_sleeps_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_guard", lambda scope: None)
    code, complaints = run_check(tmp_path, check_fleet.kill_is_guarded)
    assert code == 1
    assert "was answered with 200" in complaints[0]


def test_the_check_without_a_postgres_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "STEPS", ())
    monkeypatch.setattr(main, "why_no_fleet", lambda database: "there is no PostgreSQL")
    assert main.main(["--check", "--port", "0"], tmp_path) in (0, 1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "The bot with workers was not visited: there is no PostgreSQL."


# Start and end


def test_no_postgres_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own_postgres, "find_binaries", lambda: None)
    assert main.main(["--workers", "2", "--port", "0"], tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    reason = "there can be no workers, since there is no PostgreSQL on this machine (Debian and"
    assert reason in captured.err


def test_a_database_that_does_not_answer_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://127.0.0.1:1/none"
    assert main.main(["--workers", "2", "--port", "0", "--database", url], tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "the database cannot be used" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "0"], ["--workers", "9"], ["--workers", "x"], ["--database", "p://"]],
)
def test_a_wrong_command_line_is_refused(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(arguments, tmp_path)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


WITHOUT = "import sys; sys.modules.update(dict.fromkeys(['asgiref.postgres', 'asyncpg'])); " + START


def test_without_asgiref_postgres_workers_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tmp_path), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, cwd=DEMO, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    reason = "there can be no workers, since asgiref-postgres is not installed"
    assert done.stderr == f"The demo cannot run: {reason}\n"


def test_without_asgiref_postgres_the_rest_is_as_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tmp_path), "--port", "0", "--check"]
    done = subprocess.run(command, cwd=DEMO, capture_output=True, text=True, check=False)
    failed = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert set(failed) <= {"FAIL  own wheels"}  # depends on this environment
    assert done.stdout.splitlines()[-1].endswith("asgiref-postgres is not installed.")


@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_demo(tmp_path: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path), "--port", "0", "--workers", "2"],
        cwd=DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert demo.stdout is not None
        assert re.search(r"http://127\.0\.0\.1:\d+/", demo.stdout.readline()), demo.communicate()
        children = children_of(demo.pid)
        names = " ".join(map(name_of, children))
        assert len(set(re.findall(r"--name worker-\d", names))) == 2
        folder = re.search(r"own_postgres.py \S+ (\S+)", names)
        assert folder is not None
        wait_for_end(children, lambda: demo.send_signal(number))
        out, err = demo.communicate(timeout=30)
        assert not Path(folder[1]).exists()
    finally:
        demo.kill()
        demo.communicate()
    if number is not signal.SIGKILL:
        assert (demo.returncode, out.splitlines()[-1], err) == (0, "Ended.", "")
