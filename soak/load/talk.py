"""Websocket clients: every message has an id, and gets one answer unless its connection is cut."""

import random
import socket
from itertools import count

from aiohttp import ClientWebSocketResponse, WSMsgType
from records import RequestOutcome

from .ordinary import Ask, RequestKind

ACTIONS = ("cross", "cross", "cross-parallel", "cancel")
_ids = count()


async def connect(ask: Ask) -> ClientWebSocketResponse:
    where = random.choice(["own-thread", "shared-thread"])
    return await ask.session.ws_connect(f"/talk/{where}", headers=ask.headers)


async def say(ask: Ask, client: ClientWebSocketResponse, times: int, do: str = "") -> list[int]:
    """Send messages; return their ids."""
    said = [next(_ids) for _ in range(times)]
    for number in said:
        await client.send_json({"id": number, "do": do or random.choice(ACTIONS)})
    ask.ledger.messages["sent"] += times
    return said


async def hear(ask: Ask, client: ClientWebSocketResponse, said: list[int]) -> None:
    """Require the answers to these messages, in this order."""
    for number in said:
        answer = await client.receive_json()
        assert answer == {"id": number, "mark": ask.mark}, (answer, number)
    ask.ledger.messages["answered"] += len(said)


async def talk(ask: Ask) -> None:
    """Send some messages one by one, then some at once."""
    async with await connect(ask) as client:
        for _ in range(20):
            await hear(ask, client, await say(ask, client, 1))
        await hear(ask, client, await say(ask, client, 20))


async def talk_and_vanish(ask: Ask) -> None:
    async with await connect(ask) as client:
        said = await say(ask, client, 10)
        await hear(ask, client, said[:3])
        ask.ledger.messages["cut"] += 7
        client.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


async def raise_in_talk(ask: Ask) -> None:
    """Send a message to which the server responds by closing."""
    ask.causes("uvicorn.error", "OnPurpose")
    async with await connect(ask) as client:
        await hear(ask, client, await say(ask, client, 1, "cross"))
        await say(ask, client, 1, "raise")
        heard = await client.receive()
        assert heard.type in (WSMsgType.CLOSE, WSMsgType.CLOSED), heard
    ask.ledger.messages["cut"] += 1


TALK = [
    RequestKind("talk", 3, talk),
    RequestKind("talk-and-vanish", 1, talk_and_vanish, RequestOutcome.CUT),
    RequestKind("raise-in-talk", 1, raise_in_talk),
]
