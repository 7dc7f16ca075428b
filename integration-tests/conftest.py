from collections.abc import Callable
from pathlib import Path

import pytest
from environments import Environment


@pytest.fixture
def fresh_environment(tmp_path: Path) -> Environment:
    """A virtual environment that contains only pip."""
    return Environment.create(tmp_path / "environment")


@pytest.fixture(scope="module")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """Return a function that makes an environment, for modules whose tests share one.

    Call it with a name for the folder.
    """

    def make(name: str) -> Environment:
        return Environment.create(tmp_path_factory.mktemp(name) / "environment")

    return make
