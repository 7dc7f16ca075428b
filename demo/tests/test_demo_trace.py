"""The page gets all events, in order and without gaps."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import aclosing

import pytest
from app import trace as trace_module
from app.trace import Event, Heard, Trace

pytestmark = pytest.mark.asyncio


def heard(text: str) -> Heard:
    return Heard("ann", "bot", text)


def text_of(event: Event) -> str:
    return str(json.loads(event.text)["text"])


async def test_a_subscriber_gets_the_past_and_then_the_present_from_any_thread() -> None:
    trace = Trace()
    trace.publish(heard("past"))
    async with aclosing(trace.subscribe()) as events:  # type: ignore[type-var]
        assert text_of(await anext(events)) == "past"
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        thread = threading.Thread(target=trace.publish, args=[heard("present")])
        thread.start()
        assert text_of(await waiting) == "present"
        thread.join()


async def test_who_comes_back_goes_on_after_the_last_event() -> None:
    trace = Trace()
    for text in "abc":
        trace.publish(heard(text))
    trace.close()
    assert [text_of(event) async for event in trace.subscribe(after=1)] == ["b", "c"]
    # A number from an earlier run of the demo.
    assert [text_of(event) async for event in trace.subscribe(after=99)] == ["a", "b", "c"]


async def test_a_subscriber_that_falls_behind_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "SUBSCRIBER_BACKLOG", 3)
    trace = Trace()
    trace.publish(heard("first"))
    events = trace.subscribe()
    assert text_of(await anext(events)) == "first"
    for number in range(10):
        trace.publish(heard(str(number)))
    assert [text_of(event) async for event in events] == ["0", "1", "2"]


async def test_only_the_latest_run_of_a_piece_is_remembered() -> None:
    trace = Trace()
    trace.name_loop("my loop")
    for _ in range(3):
        trace.ran("piece")
    trace.close()
    (event,) = [event async for event in trace.subscribe()]
    ran = json.loads(event.text)
    assert (ran["piece"], ran["count"], ran["where"]["loop"]) == ("piece", 3, "my loop")
