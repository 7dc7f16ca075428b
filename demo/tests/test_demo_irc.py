"""The wire format of IRC: parsing, formatting, and refused input."""

from __future__ import annotations

import pytest
from app.irc import MAX_LINE, Message, fold, is_channel, is_nick, split_text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PING :a b", Message("PING", ("a b",))),
        ("nick ann", Message("NICK", ("ann",))),
        (":srv 001 ann :Hi there", Message("001", ("ann", "Hi there"), "srv")),
        (":a!b@c PRIVMSG #x ::-)", Message("PRIVMSG", ("#x", ":-)"), "a!b@c")),
        ("USER a 0 *  :Ann :x", Message("USER", ("a", "0", "*", "Ann :x"))),
        ("TOPIC #x :", Message("TOPIC", ("#x", ""))),
    ],
)
def test_lines_are_understood(line: str, message: Message) -> None:
    assert Message.parse(line) == message


@pytest.mark.parametrize("line", ["", "   ", ":only.a.prefix", ":prefix :text"])
def test_a_line_without_a_command_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="needs a command"):
        Message.parse(line)


@pytest.mark.parametrize(
    "message",
    [
        Message("PRIVMSG", ("bot", "two words")),
        Message("PRIVMSG", ("bot", ":starts with a colon")),
        Message("PRIVMSG", ("bot", "")),
        Message("QUIT"),
        Message("NICK", ("ann",), "old!user@host"),
        Message("PRIVMSG", ("bot", "Grüße 🎉")),
    ],
)
def test_what_is_written_is_read_back(message: Message) -> None:
    assert Message.decode(message.encode()) == message


@pytest.mark.parametrize(
    "message",
    [
        Message("PRIVMSG", ("bot", "x\r\nQUIT")),
        Message("PRIVMSG", ("bot", "x\nQUIT")),
        Message("PRIVMSG", ("bot", "nul\0")),
        Message("PRIVMSG", ("bot\r\nQUIT", "x")),
        Message("PRIVMSG", ("two words", "x")),
        Message("PRIVMSG", ("", "x")),
        Message("PRIVMSG", (":bot", "x")),
        Message("PING", ("x",), "prefix with spaces"),
    ],
)
def test_nothing_can_smuggle_in_a_second_command(message: Message) -> None:
    with pytest.raises(ValueError, match=message.command):
        message.encode()


def test_a_long_line_is_cut_between_characters() -> None:
    line = Message("PRIVMSG", ("bot", "ü" * 600)).encode()
    assert len(line) <= MAX_LINE
    assert line.endswith("ü\r\n".encode())


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert Message.decode(b"PRIVMSG bot :caf\xe9\r\n").param(1) == "caf\ufffd"


def test_a_text_is_split_without_loss() -> None:
    text = "aüß🎉" * 50
    pieces = list(split_text(text, 7))
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= 7


def test_nicknames_and_channels() -> None:
    assert [is_nick(n) for n in ("ann", "[a]", "a-b", "1ann", "", "a b", "a" * 31, "ü")] == [
        *[True] * 3,
        *[False] * 5,
    ]
    assert [is_channel(c) for c in ("#x", "&y", "x", "#", "#a b", "#a,b")] == [
        *[True] * 2,
        *[False] * 4,
    ]
    assert fold("Ann[1]~") == fold("aNN{1}^")
