"""The worker of the Django page handles every message, although its sessions end."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from repository import ROOT

sys.path.append(str(ROOT / "tools"))

from own_postgres import own_postgres  # from tools/

PAGE = ROOT / "docs" / "how-to" / "postgres-django.md"
FILE = re.compile(r"^```py\n(.*?)^```\n\nSave this as `(\w+\.py)`", re.M | re.S)
# What a fast shutdown of the server does to its sessions. It polls, because PostgreSQL reports no
# event when a session has ended.
END_SESSIONS = """\
import asyncio, os
import asyncpg

OTHERS = (
    "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)

async def end_sessions():
    connection = await asyncpg.connect(os.environ["ASGIREF_POSTGRES_DATABASE"])
    async with asyncio.timeout(30):
        while await connection.fetchval(f"SELECT count(*) {OTHERS}") != 1:
            await asyncio.sleep(0.02)
    print(await connection.fetchval(f"SELECT count(pg_terminate_backend(pid)) {OTHERS}"))
    await connection.close()

asyncio.run(end_sessions())
"""


class Site:
    """The page's files, in their own folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = os.environ | {"ASGIREF_POSTGRES_DATABASE": url}
        for text, name in FILE.findall(PAGE.read_text("utf-8")):
            (folder / name).write_text(text, "utf-8")

    def call(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def worker(self) -> Iterator[None]:
        process = subprocess.Popen(
            [sys.executable, "-m", "asgiref.postgres", "worker", "work:handle_orders"],
            cwd=self.folder,
            env=self.environment,
        )
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.timeout(120)
def test_the_pages_worker_keeps_no_connection_and_survives_the_loss_of_all(
    tmp_path: Path,
) -> None:
    with own_postgres() as server:
        site = Site(tmp_path, server.url)
        site.call("orders.py")
        site.call("-m", "asgiref.postgres", "migrate")
        with site.worker():
            for _ in range(3):
                assert site.call("try_it.py").endswith("all packed\n")  # waits for the worker
                assert site.call("-c", END_SESSIONS) == "1\n"  # the worker's own session only
            assert site.call("try_it.py").endswith("all packed\n")
        assert site.call("-m", "asgiref.postgres", "dead-letters", "list") == ""
