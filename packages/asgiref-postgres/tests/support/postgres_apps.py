"""Applications and a gateway that fault tests run in separate processes."""

import os
import signal
import sys
from typing import Any

from asgiref.postgres import Database, PostgresGateway


async def echo(scope: Any, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        await send({"type": "echo", "number": message["number"]})


class Recorder(PostgresGateway):
    """Appends a line for each event to a file: scope, number, redelivered."""

    def __init__(self, database: Database, path: str) -> None:
        super().__init__(database)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115

    async def handle(self) -> None:
        import asyncio

        print("owner", flush=True)
        await asyncio.get_running_loop().create_future()

    async def application_send(self, scope: Any, message: Any) -> None:
        delivery = self.delivery
        self._file.write(f"{delivery.scope_id} {message['number']} {delivery.redelivered:d}\n")


if __name__ == "__main__":
    Recorder(Database(sys.argv[1], timeout=2.0), sys.argv[2]).run()
