"""What can go wrong, as a caller sees it."""


class RedisServerError(RuntimeError):
    """A worker or gateway cannot go on; the text is one sentence that says why."""


class CannotStart(RedisServerError):
    """Something about the URL, the Redis there or the arguments has to be changed first."""


class ConnectionTaken(RedisServerError):
    """Another gateway holds the connection."""


class LeaseLost(RedisServerError):
    """The partition is no longer this worker's: nothing that its application sends counts."""


class Unreachable(RedisServerError):
    """Redis did not answer, or cannot do it now; whether it has done it is not known."""
