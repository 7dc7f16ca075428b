"""The README's example, as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_redis import RealRedis

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="only where the README is beside the tests")
def test_the_example_of_the_readme_answers(own_redis: RealRedis, tmp_path: Path) -> None:
    chat, bot, *_ = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    (tmp_path / "chat.py").write_text(chat.replace("redis://127.0.0.1:6379", own_redis.url))
    (tmp_path / "bot.py").write_text(bot)
    options = ["worker", "bot:shout", "--url", own_redis.url, "--group", "bots"]
    with (
        subprocess.Popen(
            [sys.executable, "-m", "asgiref.redis", *options],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        ) as worker,
        subprocess.Popen(
            [sys.executable, "chat.py"],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as gateway,
    ):
        assert gateway.stdin is not None
        assert gateway.stdout is not None
        gateway.stdin.write("ada hello\nben hi\n")
        gateway.stdin.flush()
        heard = {gateway.stdout.readline() for _ in range(2)}
        gateway.stdin.close()
        worker.terminate()
        assert (gateway.wait(30), worker.wait(30)) == (0, 0)
    assert heard == {"ada: HELLO\n", "ben: HI\n"}
