"""Serve until SIGTERM: ``SOAK_FOLDER=... python -m site_under_test LISTENING_DESCRIPTOR``."""

import os
import socket
import sys
from pathlib import Path

import uvicorn

from .marks import log_to


def main(descriptor: int) -> None:
    log_to(Path(os.environ["SOAK_FOLDER"]) / "log.jsonl")
    config = uvicorn.Config(
        "site_under_test.asgi:application",
        log_config=None,
        log_level="warning",
        access_log=False,
        loop="asyncio",
        # Longer than any request of the load, so that no connection ends between two requests; and
        # shorter than the settling, because an asyncio timer holds its context until it fires.
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]))
