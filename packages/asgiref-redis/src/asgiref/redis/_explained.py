"""What a dead letter says of the exception that made it one."""

import traceback

#: Characters of the reason, and of the traceback, the end of which tells most.
REASON_SIZE = 1_000
TRACE_SIZE = 16_000


def explained(error: BaseException) -> tuple[str, str]:
    """A line, and the traceback. (That takes up to a millisecond.)"""
    reason = f"{type(error).__name__}: {error}"[:REASON_SIZE]
    return reason, "".join(traceback.format_exception(error))[-TRACE_SIZE:]
