"""A gateway process: ``python redis_gateway.py URL CONNECTION FIRST``.

Its outside is its standard output: it stores numbered messages for scopes, from FIRST on, says
which are stored, and says what it delivers.
"""

import asyncio
import sys
from typing import Any

from asgiref.redis import RedisGateway, RedisServerError

SCOPES = 10


class Numbers(RedisGateway):
    async def handle(self) -> None:
        number = int(sys.argv[3])
        while True:
            scope_id = f"scope{number % SCOPES}"
            scope = {"type": "test", "id": scope_id}
            await self.store(scope_id, scope, {"type": "say", "number": number})
            print("stored", number, flush=True)
            number += 1
            await asyncio.sleep(0.002)

    async def application_send(self, scope: Any, message: Any) -> None:
        again = message["redelivered"] or self.delivery.redelivered
        print("delivered", message["number"], int(again), self.delivery.id, flush=True)


if __name__ == "__main__":
    try:
        Numbers(sys.argv[1], sys.argv[2], partitions=4, lease=1.0).run()
    except RedisServerError as error:
        sys.exit(str(error))
