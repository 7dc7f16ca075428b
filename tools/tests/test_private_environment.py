"""How the two commands create their environments."""

import sys

import pytest
from checkouts import closed_address
from private_environment import CannotPrepare, call, is_offline, runnable


def test_only_modules_that_can_be_run_count() -> None:
    assert runnable("venv")
    assert not runnable("no_such_module_anywhere")
    assert not runnable("json.decoder")


def test_a_command_that_fails_is_shown_with_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    script = "import os, sys; sys.exit('%s, no luck' % os.environ.get('PIP_USER'))"
    with pytest.raises(CannotPrepare, match="could not get luck") as caught:
        call([sys.executable, "-c", script], "luck")
    assert str(caught.value).splitlines()[1:] == ["None, no luck"]


def test_an_index_that_does_not_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", closed_address())
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert is_offline(sys.executable)
