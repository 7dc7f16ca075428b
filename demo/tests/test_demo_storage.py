"""The storage keeps complete data, and never half an upload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from app.storage import Entry, File, Storage, TooLarge, Turn, Win


def test_entries_come_back_newest_first(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for name in ("ann", "bob", "eve"):
        storage.add_entry(name, "hello")
    entries = storage.entries(limit=2)
    assert entries == [
        Entry("eve", "hello", entries[0].signed),
        Entry("bob", "hello", entries[1].signed),
    ]
    assert Storage(tmp_path).entries()[-1].name == "ann"


def test_the_best_are_those_with_the_fewest_guesses(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for user, guesses in [("ann", 5), ("bob", 3), ("eve", 3)]:
        storage.add_win(user, guesses)
    assert storage.best_wins(2) == [Win("bob", 3), Win("eve", 3)]


def test_the_latest_turns_of_each_game_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.KEPT_TURNS", 2)
    storage = Storage(tmp_path)
    turns = [Turn(42, (1, 2, 3)[:n], n, "too low") for n in (1, 2, 3)]
    for turn in turns:
        storage.keep_turn("ann", turn)
        storage.keep_turn("anna", turn)
    assert [storage.turn_of("ann", turn.message) for turn in turns] == [None, *turns[1:]]
    storage.forget_game("ann")
    assert (storage.last_turn("ann"), storage.last_turn("anna")) == (None, turns[2])
    storage.forget_games("an")
    assert storage.last_turn("anna") is None


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    content = bytes(range(256)) * 1000
    stored = storage.write_file("a.bin", [content[:70_000], content[70_000:]], limit=1 << 20)
    assert stored == File("a.bin", len(content), hashlib.sha256(content).hexdigest())
    assert b"".join(storage.read_file("a.bin")) == content
    assert storage.file("a.bin") == stored
    storage.write_file("a.bin", [b"new"], limit=10)
    assert [file.size for file in storage.files()] == [3]


def test_a_broken_or_oversized_upload_leaves_nothing(tmp_path: Path) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the browser left")

    storage = Storage(tmp_path)
    with pytest.raises(OSError, match="the browser left"):
        storage.write_file("a.bin", breaks_off(), limit=100)
    with pytest.raises(TooLarge, match="larger than 5 bytes"):
        storage.write_file("a.bin", [b"1234", b"56"], limit=5)
    assert storage.file("a.bin") is None
    assert list((tmp_path / "files").iterdir()) == []
