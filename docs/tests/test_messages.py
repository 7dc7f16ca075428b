"""Every message that users can get from the packages is explained, under Troubleshooting."""

import re
from pathlib import Path

from messages import messages, messages_of
from repository import ROOT

PAGE = ROOT / "docs" / "troubleshooting" / "messages.md"

WHERE = (
    "Explain each in docs/troubleshooting/messages.md: the message in backticks on a line of its "
    "own, with … for each part that varies, and the cause and the remedy below it, after a colon."
)


def as_on_the_page(message: str) -> str:
    """The page cuts a message at a command in backticks, and explains a repeated one once."""
    text = re.sub(r"\s+", " ", message)
    text = re.sub(r"(installed together with) asgiref-\w+", r"\1 …", text)
    return text.partition("`")[0] + "…" if "`" in text else text


def explained() -> set[str]:
    return set(re.findall(r"^`(.+)`\n: \S", PAGE.read_text("utf-8"), re.M))


def test_every_message_of_the_packages_is_explained() -> None:
    known = explained()
    missing = [str(each) for each in messages() if as_on_the_page(each.text) not in known]

    assert missing == [], WHERE


def test_every_explained_message_exists() -> None:
    existing = {as_on_the_page(each.text) for each in messages()}

    assert sorted(explained() - existing) == []


SOURCE = """\
import logging

logger = logging.getLogger("example")


async def serve(self, task):
    text = "%s failed"
    logger.error(text, task)
    logger.log(30, "task %d of %s " "is late", 1, task)
    if self.reason:
        reason = f"no {self.name}"
    else:
        reason = "nothing"
    raise ValueError(reason + ".") from None


def check(error):
    error.exception()
    warnings.warn("use another", stacklevel=2)
    raise BadRequest("shown to the client", f"logged: {error}")
"""


def test_messages_are_found_in_exceptions_warnings_and_logs(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(SOURCE, "utf-8")

    assert {each.text for each in messages_of(source)} == {
        "… failed",
        "task … of … is late",
        "no ….",
        "nothing.",
        "use another",
        "logged: …",
    }
