"""The wire format of IRC (RFC 1459, section 2.3): parse a line, format a line, compare nicknames.

All text from the network or a user passes through ``Message`` before it is written to a connection,
and ``Message.encode`` refuses characters that would split the line. So a message cannot smuggle in
a second command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE = 512
"""The maximum bytes of a line, including CR LF (RFC 1459, section 2.3)."""

MAX_TEXT = 380
"""The bytes of text that fit in a PRIVMSG after the longest possible prefix."""

_NICK = re.compile(r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]{0,29}")
_CHANNEL = re.compile(r"[#&][^\x00-\x20\x7f,:]{1,49}")
# RFC 1459 counts {}|^ as the lower case of []\~ (it comes from a Scandinavian keyboard).
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ[]\\~", "abcdefghijklmnopqrstuvwxyz{}|^")


@dataclass(frozen=True, slots=True)
class Message:
    """One IRC message.

    >>> Message.parse(":ann!a@host PRIVMSG bot :50 please")
    Message(command='PRIVMSG', params=('bot', '50 please'), prefix='ann!a@host')
    >>> Message("PRIVMSG", ("bot", "50 please")).encode()
    b'PRIVMSG bot :50 please\\r\\n'
    """

    command: str
    params: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def nick(self) -> str:
        """Return the nickname or server that sent the message, or an empty string."""
        return self.prefix.partition("!")[0]

    def param(self, index: int) -> str:
        """Return the parameter at ``index``, or an empty string if there are fewer."""
        return self.params[index] if index < len(self.params) else ""

    @classmethod
    def parse(cls, line: str) -> Message:
        """Parse one line without its CR LF. Raises ``ValueError`` if it has no command."""
        prefix = ""
        if line.startswith(":"):
            prefix, _, line = line[1:].partition(" ")
        middle, colon, trailing = line.lstrip(" ").partition(" :")
        words = middle.split()
        if not words or words[0].startswith(":"):
            raise ValueError("an IRC line needs a command")
        params = [*words[1:], trailing] if colon else words[1:]
        return cls(words[0].upper(), tuple(params), prefix)

    @classmethod
    def decode(cls, raw: bytes) -> Message:
        """Parse one line from the network; replace bytes that are not UTF-8."""
        return cls.parse(raw.decode("utf-8", "replace").rstrip("\r\n"))

    def encode(self) -> bytes:
        """Return the line for the network, cut between characters to at most 512 bytes.

        Raises ``ValueError`` if a part contains a character that would end or split the line.
        """
        parts = [f":{self.prefix}"] if self.prefix else []
        parts += [self.command, *self.params[:-1]]
        if any(not part or " " in part for part in parts):
            raise ValueError(f"the {self.command} message has an empty or divided parameter")
        if any(param.startswith(":") for param in self.params[:-1]):
            raise ValueError(f"only the last parameter of {self.command} may start with a colon")
        if self.params:
            last = self.params[-1]
            needs_colon = not last or " " in last or last.startswith(":")
            parts.append(f":{last}" if needs_colon else last)
        line = " ".join(parts)
        if any(character in line for character in "\r\n\0"):
            raise ValueError(f"the {self.command} message holds a line break or a null character")
        return next(split_text(line, MAX_LINE - 2)).encode() + b"\r\n"


def is_nick(text: str) -> bool:
    """Whether ``text`` may be a nickname (30 characters at most; many servers allow only 9)."""
    return _NICK.fullmatch(text) is not None


def is_channel(text: str) -> bool:
    """Whether ``text`` may name a channel."""
    return _CHANNEL.fullmatch(text) is not None


def fold(name: str) -> str:
    """Return a form that is equal for all spellings of a nickname or channel (RFC 1459, 2.2).

    >>> fold("Ann[away]") == fold("ann{AWAY}")
    True
    """
    return name.translate(_LOWER)


def split_text(text: str, limit: int = MAX_TEXT) -> Iterator[str]:
    """Cut a text into pieces of at most ``limit`` bytes of UTF-8, never inside a character.

    >>> list(split_text("größer", 4))
    ['grö', 'ßer']
    """
    while len(text.encode("utf-8")) > limit:
        piece = text.encode("utf-8")[:limit].decode("utf-8", "ignore")
        yield piece
        text = text[len(piece) :]
    yield text
