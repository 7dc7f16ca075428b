"""What a connection's processes agree on before anything else: its number of partitions."""

from ._client import Link
from ._errors import CannotStart, Unreachable
from ._keys import ConnectionKeys

#: How many partitions a connection has unless its first gateway says otherwise: enough for some
#: twenty workers to have about the same share, and few enough to be looked after.
PARTITIONS = 64


async def partitions_of(link: Link, keys: ConnectionKeys) -> int:
    """The connection's number of partitions; set to the default if no gateway has been there.

    Raises:
        CannotStart: if Redis does not say.
    """
    try:
        found = await link.command("HGET", keys.settings, "partitions")
        if found is None:
            await link.command("HSETNX", keys.settings, "partitions", PARTITIONS)
            found = await link.command("HGET", keys.settings, "partitions")
        return int(found)
    except (Unreachable, RuntimeError, ValueError) as error:
        raise CannotStart(f"The connection {keys.connection!r} cannot be used: {error}") from None


def check_partitions(keys: ConnectionKeys, wanted: int | None, found: int) -> int:
    """The number that was ``found``. Raises CannotStart if another one is ``wanted``."""
    if wanted is not None and wanted != found:
        raise CannotStart(
            f"The connection {keys.connection!r} has {found} partitions, not {wanted}: that number "
            "is decided by its first process."
        )
    return found
