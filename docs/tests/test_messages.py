"""Every message that users can get from the packages is explained, under Troubleshooting."""

from pathlib import Path

from messages import is_explained, messages, messages_of

WHERE = (
    "Explain each in docs/troubleshooting/messages.md: the message in backticks on a line of its "
    "own, with … for each part that varies, and the cause and the remedy below it, after a colon."
)


def test_every_message_in_the_packages_is_explained() -> None:
    missing = [str(each) for each in messages() if not is_explained(each)]

    assert missing == [], WHERE


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
    detail = f"at {self.place}, now"
    await self.time_out(f"sent nothing in {seconds} s", cancel)
    raise ValueError(reason + ".") from LookupError(f"not found {detail}")


def check(error):
    error.exception()
    warnings.warn("use another", stacklevel=2)
    raise BadRequest("shown to the client", f"logged: {error}")


def explain(value) -> str:
    if value is None:
        return "nothing was given"
    return f"{value!r} is of the " "wrong kind"


ENDED = "the example has ended"


def refuse(value):
    raise TypeError(explain(value)) from ClientDisconnected(ENDED)
"""


def test_messages_are_found_in_exceptions_warnings_and_logs(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(SOURCE, "utf-8")

    assert {each.text for each in messages_of(source)} == {
        "… failed",
        "task … of … is late",
        "no ….",
        "nothing.",
        "not found at …, now",
        "… sent nothing in … s: ….",
        "use another",
        "logged: …",
        "the example has ended",
        "nothing was given",
        "… is of the wrong kind",
    }
