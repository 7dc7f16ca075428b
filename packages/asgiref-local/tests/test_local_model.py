"""Random sequences of threads, contexts and bridged calls match a model of the rules."""

import contextvars
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hand_made_bridge import Crossing, Place
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from asgiref.local import Local

INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))
NOTHING = object()

NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
places = st.integers(0, 2)


@dataclass(frozen=True, eq=False)
class Entry:
    """One value in one context. `owner` is the number of a place; None if all code sees it."""

    value: object
    owner: int | None


def see_all(local: Local) -> dict[str, object]:
    """Read all attributes, and check that `hasattr`, `getattr` and `dir` agree."""
    seen = {name: getattr(local, name) for name in NAMES if hasattr(local, name)}
    assert [name for name in dir(local) if name in NAMES] == sorted(seen)
    return seen


DELETED = Entry(NOTHING, -1)


@dataclass(eq=False)
class Scene:
    """A context, the place where its code runs, and the entries that the model expects in it."""

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


@dataclass(eq=False, kw_only=True)
class BridgedScene(Scene):
    """A scene whose code was called across the bridge."""

    crossing: Crossing
    caller: Scene
    before: dict[str, Entry] = field(default_factory=dict)


class LocalMachine(RuleBasedStateMachine):
    scenes: Bundle[Any] = Bundle("scenes")
    calls: Bundle[Any] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.places = [Place() for _ in range(3)]
        self.local = Local()
        self.all_scenes: list[Scene] = []

    def teardown(self) -> None:
        for place in self.places:
            place.close()

    def added(self, scene: Scene) -> Scene:
        self.all_scenes.append(scene)
        return scene

    def run_in(self, scene: Scene, function: Any, *arguments: Any) -> Any:
        run = partial(function, self.local, *arguments)
        return self.places[scene.place].run(run, scene.context, in_loop=scene.in_loop)

    @initialize(target=scenes)
    def start(self) -> Any:
        return multiple(
            self.added(Scene(contextvars.Context(), 0, False)),
            self.added(Scene(contextvars.Context(), 1, True)),
        )

    @rule(scene=scenes, name=names, value=st.integers())
    def set_attribute(self, scene: Scene, name: str, value: int) -> None:
        self.run_in(scene, setattr, name, value)
        scene.entries[name] = Entry(value, scene.owner())

    @rule(scene=scenes, name=names)
    def delete_attribute(self, scene: Scene, name: str) -> None:
        try:
            self.run_in(scene, delattr, name)
        except AttributeError:
            assert not scene.sees(name)
        else:
            assert scene.sees(name)
            scene.entries[name] = DELETED

    @invariant()
    def each_scene_sees_the_expected_values(self) -> None:
        for scene in self.all_scenes:
            seen = self.run_in(scene, see_all)
            assert seen == {n: scene.entries[n].value for n in NAMES if scene.sees(n)}

    @rule(target=scenes, scene=scenes, place=places, in_loop=st.booleans())
    def copy_context(self, scene: Scene, place: int, in_loop: bool) -> Scene:
        """Start a task (same place), or call `asyncio.to_thread` or similar (another place)."""
        return self.added(scene.copied_to(place, in_loop))

    @rule(targets=(scenes, calls), caller=scenes, place=places, in_loop=st.booleans())
    def cross_the_bridge(self, caller: Scene, place: int, in_loop: bool) -> BridgedScene:
        crossing = Crossing.go(
            self.places[caller.place],
            caller.context,
            caller.in_loop,
            self.places[place],
            in_loop,
        )
        callee = BridgedScene(crossing.context, place, in_loop, crossing=crossing, caller=caller)
        for name, entry in caller.entries.items():
            if not caller.sees(name):
                callee.entries[name] = DELETED
            elif entry.owner is None or entry.owner == callee.owner():
                callee.entries[name] = entry
            else:
                callee.entries[name] = Entry(entry.value, callee.owner())
        callee.before = dict(callee.entries)
        self.added(callee)
        return callee

    @rule(call=calls)
    def come_back(self, call: BridgedScene) -> None:
        call.crossing.come_back()
        for name, entry in call.entries.items():
            if entry is call.before.get(name):
                continue
            returned = entry
            if entry is not DELETED and entry.owner != call.caller.owner():
                returned = Entry(entry.value, call.caller.owner())
            call.caller.entries[name] = returned


TestLocalMachine = LocalMachine.TestCase
TestLocalMachine.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
