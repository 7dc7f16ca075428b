"""Worker and gateway processes, and a proxy that cuts connections."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent


class Process:
    """A Python process whose output goes to a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / f"{random.randrange(1 << 40):x}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(SUPPORT)},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    async def ended(self) -> int:
        return await asyncio.to_thread(self._process.wait, 60)

    def text(self) -> str:
        return self.log.read_text()

    def clean_up(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)


def worker_process(
    folder: Path, url: str, connection: str, application: str = "echo", *options: str
) -> Process:
    return Process(
        folder,
        *("-m", "asgiref.redis", "worker", f"redis_apps:{application}", "--url", url),
        *("--group", "group", "--connection", connection, "--lease", "1"),
        *("--log-level", "DEBUG", *options),
    )


class Proxy:
    """Passes bytes on between clients and a server, until it is told to cut or to hold.

    Args:
        port: the server's.
        cut_after: after about so many bytes of replies a connection is cut, in the middle of one.
    """

    def __init__(self, port: int, cut_after: int | None = None) -> None:
        self._port = port
        self.cut_after = cut_after
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""
        self._frozen: set[asyncio.StreamWriter] = set()
        self.loses_answers_to: bytes | None = None  # to requests that contain this

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def refuse(self) -> None:
        """Take no new connections, and break all."""
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing more through the connections that there are, as if the host had gone."""
        self._frozen |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_writer = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers |= {writer, far_writer}
            await asyncio.gather(
                self._pass(reader, far_writer, None, writer),
                self._pass(far_reader, writer, self.cut_after),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, far_writer):
                if each is not None:
                    self._writers.discard(each)
                    self._frozen.discard(each)
                    each.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cut_after: int | None,
        answers: asyncio.StreamWriter | None = None,
    ) -> None:
        left = None if cut_after is None else random.randrange(cut_after // 2, cut_after * 2)
        while data := await reader.read(1 << 16):
            await self.open.wait()
            if writer in self._frozen:
                continue
            if answers is not None and self.loses_answers_to and self.loses_answers_to in data:
                self._frozen.add(answers)
            if left is not None:
                if len(data) >= left:
                    writer.write(data[:left])
                    with suppress(OSError):
                        await writer.drain()
                    self.cuts += 1
                    raise ConnectionAbortedError
                left -= len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError
