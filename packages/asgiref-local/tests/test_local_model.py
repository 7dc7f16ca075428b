"""Random programs of threads, contexts and bridged calls, against a model of the rules."""

import contextvars
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hand_made_bridge import Crossing, Place
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule

from asgiref.local import Local

INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))
NOTHING = object()

names = st.sampled_from(["a", "b", "name7", "name600"])
places = st.integers(0, 2)


@dataclass(frozen=True, eq=False)
class Entry:
    """One value in one context. `owner` is the number of a place, or None: seen by everybody."""

    value: object
    owner: int | None


DELETED = Entry(NOTHING, -1)


@dataclass(eq=False)
class Scene:
    """A context and where its code runs, with what the model says is in it."""

    context: contextvars.Context
    place: int
    in_loop: bool
    entries: dict[str, Entry] = field(default_factory=dict)

    def copied_to(self, place: int, in_loop: bool) -> "Scene":
        return Scene(self.context.copy(), place, in_loop, dict(self.entries))

    def owner(self) -> int | None:
        return None if self.in_loop and not INHERITS else self.place

    def sees(self, name: str) -> bool:
        entry = self.entries.get(name, DELETED)
        return entry.owner is None or entry.owner == self.place


@dataclass(eq=False)
class BridgedCall:
    crossing: Crossing
    caller: Scene
    callee: Scene
    before: dict[str, Entry]


class LocalMachine(RuleBasedStateMachine):
    scenes: Bundle[Any] = Bundle("scenes")
    calls: Bundle[Any] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.places = [Place() for _ in range(3)]
        self.local = Local()
        # So that some of the names have no context variable of their own.
        filler = contextvars.Context()
        for number in range(600):
            filler.run(setattr, self.local, f"name{number}", None)

    def teardown(self) -> None:
        for place in self.places:
            place.close()

    def run_in(self, scene: Scene, function: Any, *arguments: Any) -> Any:
        run = partial(function, self.local, *arguments)
        return self.places[scene.place].run(run, scene.context, in_loop=scene.in_loop)

    @initialize(target=scenes)
    def begin(self) -> Any:
        return multiple(
            Scene(contextvars.Context(), 0, False), Scene(contextvars.Context(), 1, True)
        )

    @rule(scene=scenes, name=names, value=st.integers())
    def set_attribute(self, scene: Scene, name: str, value: int) -> None:
        self.run_in(scene, setattr, name, value)
        scene.entries[name] = Entry(value, scene.owner())

    @rule(scene=scenes, name=names)
    def get_attribute(self, scene: Scene, name: str) -> None:
        expected = scene.entries[name].value if scene.sees(name) else NOTHING
        assert self.run_in(scene, getattr, name, NOTHING) == expected

    @rule(scene=scenes, name=names)
    def delete_attribute(self, scene: Scene, name: str) -> None:
        try:
            self.run_in(scene, delattr, name)
        except AttributeError:
            assert not scene.sees(name)
        else:
            assert scene.sees(name)
            scene.entries[name] = DELETED

    @rule(scene=scenes)
    def list_attributes(self, scene: Scene) -> None:
        listed = {name for name in self.run_in(scene, dir) if not name.startswith("__")}
        assert listed == {name for name in scene.entries if scene.sees(name)}

    @rule(target=scenes, scene=scenes, place=places, in_loop=st.booleans())
    def copy_context(self, scene: Scene, place: int, in_loop: bool) -> Scene:
        """A task (same place), `asyncio.to_thread` and the like (another place)."""
        return scene.copied_to(place, in_loop)

    @rule(target=calls, caller=scenes, place=places, in_loop=st.booleans())
    def go_over_the_bridge(self, caller: Scene, place: int, in_loop: bool) -> BridgedCall:
        crossing = Crossing.go(
            self.places[caller.place],
            caller.context,
            caller.in_loop,
            self.places[place],
            in_loop,
        )
        callee = Scene(crossing.context, place, in_loop)
        for name, entry in caller.entries.items():
            if not caller.sees(name):
                callee.entries[name] = DELETED
            elif entry.owner is None or entry.owner == callee.owner():
                callee.entries[name] = entry
            else:
                callee.entries[name] = Entry(entry.value, callee.owner())
        return BridgedCall(crossing, caller, callee, dict(callee.entries))

    @rule(target=scenes, call=calls)
    def run_the_callee(self, call: BridgedCall) -> Scene:
        return call.callee

    @rule(call=calls)
    def come_back(self, call: BridgedCall) -> None:
        call.crossing.come_back()
        for name, entry in call.callee.entries.items():
            if entry is call.before.get(name):
                continue
            returned = entry
            if entry is not DELETED and entry.owner != call.caller.owner():
                returned = Entry(entry.value, call.caller.owner())
            call.caller.entries[name] = returned


TestLocalMachine = LocalMachine.TestCase
TestLocalMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
