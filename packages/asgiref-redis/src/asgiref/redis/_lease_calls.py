"""What a worker says to Redis about its membership and its leases, as calls (`_worker_scripts`)."""

from ._client import Call
from ._keys import GroupKeys
from ._settings import WorkerSettings
from ._worker_scripts import ACQUIRE, HOLDER, JOIN, QUIT, RELEASE, RENEW


def join(settings: WorkerSettings, members: str, groups: str) -> Call:
    """This worker lives. Answered with the names of all that do."""
    return Call(JOIN, (members, groups), (settings.member, settings.lease_ms, settings.group))


def leave(settings: WorkerSettings, members: str) -> Call:
    """This worker is no member any more."""
    return Call(QUIT, (members,), (settings.member,))


def holder(keys: GroupKeys) -> Call:
    """Who has a partition?"""
    return Call(HOLDER, (keys.lease,), ())


def acquire(settings: WorkerSettings, keys: GroupKeys, *, lost_in_time: bool) -> Call:
    """Take a free partition. ``lost_in_time``: this worker lost it because Redis was away."""
    stream = keys.partition
    return Call(
        ACQUIRE,
        (keys.lease, keys.state, stream.incoming, keys.failures, stream.gate),
        (settings.member, settings.lease_ms, settings.group, int(lost_in_time)),
    )


def renew(settings: WorkerSettings, keys: GroupKeys, lease: str) -> Call:
    """Keep a partition. Answered with how many entries are pending, and how many are new."""
    return Call(
        RENEW,
        (keys.lease, keys.partition.incoming),
        (lease, settings.lease_ms, settings.group),
    )


def release(keys: GroupKeys, lease: str, *, clean: bool) -> Call:
    """Give a partition back. ``clean``: nothing is left that an application has begun with."""
    arguments = (lease, "clean" if clean else "left")
    return Call(RELEASE, (keys.lease, keys.state, keys.failures), arguments)
