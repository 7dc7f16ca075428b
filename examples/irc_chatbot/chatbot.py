"""A counting parrot on an IRC server: ``python chatbot.py HOST``."""

import argparse
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))

from app.bot import ChatBot
from app.bot_connection import BotConnection
from app.trace import Trace

__all__ = ["make_bot", "parrot"]


async def parrot(scope: Any, receive: Any, send: Any) -> None:
    """Talk to one user, and keep the state of the conversation in local variables."""
    heard = 0
    while True:
        message = await receive()
        heard += 1
        text = f"{heard}. {message['text']}"
        await send({"type": "chat.reply", "text": text, "target": message["target"]})


def make_bot(host: str, port: int, nick: str, channel: str, application: Any = parrot) -> ChatBot:
    trace = Trace()
    return ChatBot(application, trace, BotConnection(host, port, nick, channel, trace))


def main() -> None:
    parser = argparse.ArgumentParser(description="A parrot that counts, on an IRC server.")
    parser.add_argument("--version", action="version", version=version("asgiref-server"))
    parser.add_argument("host", metavar="HOST", help="the IRC server's name or address")
    parser.add_argument(
        "--port", type=int, default=6667, metavar="PORT", help="its port (default: %(default)s)"
    )
    parser.add_argument(
        "--nick", default="parrot", help="the bot's nickname (default: %(default)s)"
    )
    parser.add_argument(
        "--channel", default="#test", help="the channel that it joins (default: %(default)s)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    make_bot(arguments.host, arguments.port, arguments.nick, arguments.channel).run()


if __name__ == "__main__":
    main()
