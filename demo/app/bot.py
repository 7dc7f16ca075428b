"""The chatbot: a ``StatelessServer`` that connects out to a chat server.

``StatelessServer`` keeps one running application, a scope, per user. ``handle`` turns each line
from the chat server into an event in the queue of its user's scope, and ``application_send`` turns
each event from an application into a line. The bot has only one socket, its connection to the chat
server.

Rules: the bot owns a thread and, through ``StatelessServer.run``, an event loop on it; other
threads may only call ``stop``. The scopes survive a lost connection: replies wait until the bot is
back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.server import StatelessServer

from .bot_connection import BotConnection, Line
from .game import Event, Receive, Scope, Send
from .irc import fold
from .trace import Chat, Tracer

logger = logging.getLogger(__name__)

MAX_SCOPES = 500


class ChatBot(StatelessServer):
    """Serves ``application`` to all users who talk to the bot.

    A user's scope ends when the user leaves, or when ``MAX_SCOPES`` others have talked since.
    """

    name = "bot"

    def __init__(
        self,
        application: Callable[[Scope, Receive, Send], Any],
        trace: Tracer,
        connection: BotConnection,
    ) -> None:
        super().__init__(application, max_applications=MAX_SCOPES)
        self.connection = connection
        self._trace = trace
        self._ready: Callable[[], None] = lambda: None

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Run on this thread; call ``ready`` once the bot has joined the chat."""
        self._ready = ready
        self.run()

    def stop(self) -> None:
        """Ask the bot to say goodbye and end; safe from any thread."""
        self.connection.stop()

    async def handle(self) -> None:
        """Talk to the chat server until ``stop``; ``run`` returns when this returns."""
        await self.connection.run(self._ready, self._hear, self._forget)

    async def _hear(self, line: Line) -> None:
        where = self._trace.ran("StatelessServer.handle")
        self._trace.publish(Chat(line.user, line.user, line.text.strip(), where))
        scope = {"type": "chat", "user": line.user}
        queue = self.get_or_create_application_instance(fold(line.user), scope)
        queue.put_nowait({"type": "chat.message", "text": line.text, "target": line.target})

    async def _forget(self, user: str) -> None:
        if fold(user) in self.application_instances:
            self.delete_application_instance(fold(user))

    async def application_send(self, scope: Scope, message: Event) -> None:
        """Send an application's reply to the chat server. Runs in the task of that application."""
        if message["type"] != "chat.reply":
            raise ValueError(f"a chat application may send chat.reply, not {message['type']!r}")
        user, target, text = scope["user"], message["target"], message["text"]
        where = self._trace.ran("StatelessServer.application_send")
        self._trace.publish(Chat(user, self.connection.nick, text, where))
        await self.connection.say(target, f"{user}: {text}" if target != user else text)

    async def application_exception(
        self, exception: BaseException, application_details: Mapping[str, Any]
    ) -> None:
        """Log an application's failure and tell its user; the next message starts a new scope."""
        user = application_details["scope"]["user"]
        logger.error("the application of %s failed", user, exc_info=exception)
        await self.connection.try_to_say(user, "Something broke. Let us start over: say new.")
