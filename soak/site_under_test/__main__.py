"""Serve until SIGTERM: ``SOAK_FOLDER=... python -m site_under_test LISTENING_DESCRIPTOR``."""

import logging
import socket
import sys

import uvicorn

from .accounts import LogFile

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, handlers=[LogFile()])
    config = uvicorn.Config(
        "site_under_test.asgi:application",
        log_config=None,
        lifespan="off",
        loop="asyncio",
        # Longer than any request in the load, so that no connection ends between two requests; and
        # shorter than the settling, because an asyncio timer holds its context until it fires.
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
