"""A counting parrot on an IRC server: ``python chatbot.py HOST``."""

import argparse
import asyncio
import logging
from contextlib import closing
from importlib.metadata import version
from typing import Any

import irctokens

from asgiref.server import Reconnect, StatelessServer

__all__ = ["IrcChatbot", "parrot"]


async def parrot(scope: Any, receive: Any, send: Any) -> None:
    """Talk to one user, and keep the state of the conversation in local variables."""
    heard = 0
    while True:
        message = await receive()
        heard += 1
        text = f"{heard}. {message['text']}"
        await send({"type": "chat.reply", "text": text, "target": message["target"]})


class IrcChatbot(StatelessServer):
    """Serves ``application`` to every user who talks to ``nick``, in private or in ``channel``."""

    def __init__(
        self, application: Any, host: str, port: int = 6667, nick: str = "bot", channel: str = "#x"
    ) -> None:
        self._reconnect = Reconnect(first_delay=0.5, max_delay=30)
        super().__init__(application, idle_timeout=3600, reconnect=self._reconnect)
        self._address, self._nick, self._channel = (host, port), nick, channel
        self._writer: asyncio.StreamWriter
        self._connected = asyncio.Event()

    async def handle(self) -> None:
        """Talk to the IRC server until the connection is lost."""
        reader, self._writer = await asyncio.open_connection(*self._address)
        try:
            with closing(self._writer):
                await self._write("NICK", self._nick)
                await self._write("USER", self._nick, "0", "*", "a chatbot")
                while data := await reader.readline():
                    if data.strip():
                        await self._handle_line(irctokens.tokenise(data))
        finally:
            self._connected.clear()

    async def _handle_line(self, line: irctokens.Line) -> None:
        match line.command:
            case "001":
                self._reconnect.established()
                self._connected.set()
                await self._write("JOIN", self._channel)
            case "433":
                raise ConnectionError(f"the nickname {self._nick} is already in use")
            case "PING":
                await self._write("PONG", *line.params)
            case "PRIVMSG":
                await self._hear(line.hostmask.nickname, *line.params)

    async def _hear(self, user: str, target: str, text: str) -> None:
        """Pass a private message, or one such as ``bot: hello`` in the channel, to its scope."""
        if target == self._nick:
            target = user
        else:
            addressed, colon, text = text.partition(":")
            if addressed.strip() != self._nick or not colon:
                return
        queue = self.get_or_create_application_instance(user, {"type": "chat", "user": user})
        await queue.put({"type": "chat.message", "text": text.strip(), "target": target})

    async def application_send(self, scope: Any, message: Any) -> None:
        """Send an answer; if the connection is lost, wait until it is restored."""
        user, target = scope["user"], message["target"]
        text = message["text"] if target == user else f"{user}: {message['text']}"
        while True:
            await self._connected.wait()
            writer = self._writer
            try:
                return await self._write("PRIVMSG", target, " ".join(text.split()))
            except OSError:
                if writer is self._writer:  # `handle` has not noticed the loss yet
                    self._connected.clear()

    async def _write(self, command: str, *params: str) -> None:
        line = irctokens.build(command, list(params)).format()
        self._writer.write(line.encode()[:510] + b"\r\n")
        await self._writer.drain()


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
    address = (arguments.host, arguments.port)
    IrcChatbot(parrot, *address, arguments.nick, arguments.channel).run()


if __name__ == "__main__":
    main()
