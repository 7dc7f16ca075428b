"""The bot with ``--workers``: what a kill costs, and what the check finds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import own_postgres
import pytest
from app import check, fleet, main
from app.bot import FleetBot


@pytest.fixture(autouse=True)
def postgres() -> None:
    """Skip the test if there is no PostgreSQL; fail in CI, where skips go unread."""
    if own_postgres.find_binaries() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no PostgreSQL")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_killed_in_the_middle_costs_no_answer(workers: int, run_check: Any) -> None:
    assert run_check(*check.FLEET_STEPS, workers=workers) == (0, [])


def test_a_database_that_is_there_is_used_and_left_as_it_was(
    run_check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def schemas(url: str) -> list[Any]:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'asg%'")
        await connection.close()
        return list(rows)

    with own_postgres.own_postgres() as server:
        assert run_check(check.workers_share, workers=2, database=server.url) == (0, [])
        assert asyncio.run(schemas(server.url)) == []
        monkeypatch.setattr(fleet, "sys", SimpleNamespace(executable="false"))
        assert run_check(check.page, workers=2, database=server.url)[0] == 1
        assert asyncio.run(schemas(server.url)) == []


async def forgetful(self: FleetBot, scope: Any, message: Any) -> None:
    if "guess 7)" not in message["text"]:
        await application_send(self, scope, message)


application_send = FleetBot.application_send


@pytest.mark.parametrize(
    ("target", "replacement", "complaint"),
    [
        ("app.bot.FleetBot.application_send", forgetful, "TimeoutError"),
        ("app.fleet.REPLACE_SECONDS", 1000, "did not show such a 'fleet' event"),
    ],
    ids=["an answer is lost", "a worker is not replaced"],
)
def test_a_kill_that_costs_something_is_found(
    target: str, replacement: object, complaint: str, run_check: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(target, replacement)
    monkeypatch.setattr(check, "SECONDS", 4.0)
    code, complaints = run_check(check.kill_a_worker, workers=2)
    assert (code, len(complaints)) == (1, 1)
    assert complaint in complaints[0]


def test_a_worker_that_ends_at_once_is_one_complaint(
    run_check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "sys", SimpleNamespace(executable="false"))
    code, complaints = run_check(check.page, workers=1)
    assert (code, len(complaints)) == (1, 1)
    assert "fleet could not start: worker-1 ended at once, with exit code 1" in complaints[0]


def test_the_check_without_a_postgres_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check.run, "__defaults__", ((), check.GuessingGame))
    monkeypatch.setattr(own_postgres, "find_binaries", lambda: None)
    assert main.main(["--check", "--port", "0"], tmp_path) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("so the bot with workers was not visited.")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the workers need a database: there is no PostgreSQL on this machine (Debian"),
        (["--database", "postgresql://127.0.0.1:1/none"], "the database cannot be used"),
    ],
)
def test_a_missing_database_is_reported_in_one_sentence(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(own_postgres, "find_binaries", lambda: None)
    assert main.main(["--workers", "2", "--port", "0", *arguments], tmp_path) == 1
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
    assert reason in captured.err
