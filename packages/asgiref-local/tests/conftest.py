from collections.abc import Callable, Iterator

import pytest
from hand_made_bridge import Crossing, Place


@pytest.fixture
def make_place() -> Iterator[Callable[[], Place]]:
    """Return a function that starts a thread; the threads end with the test."""
    places: list[Place] = []

    def make() -> Place:
        places.append(Place())
        return places[-1]

    yield make
    for place in places:
        place.close()


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    return make_place()


@pytest.fixture
def crossing() -> type[Crossing]:
    """The class of calls across a minimal bridge."""
    return Crossing
