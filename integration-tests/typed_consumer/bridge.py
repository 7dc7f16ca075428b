"""Type checkers know as much about bridged functions as about the functions themselves.

Each ignored error is part of the check: both checkers report an ignore that hides no error.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar, assert_type

from asgiref.sync import (
    AsyncToSync,
    SyncToAsync,
    async_to_sync,
    async_to_sync_iterator,
    sync_to_async,
    sync_to_async_iterator,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Repository:
    """Methods that are bridged in every possible way."""

    @sync_to_async
    def find(self, key: int, *, strict: bool = False) -> str:
        return str((key, strict))

    @sync_to_async(thread_sensitive=False)
    def count(self) -> int:
        return 1

    @async_to_sync
    async def load(self, key: int) -> bytes:
        return bytes(key)

    @async_to_sync(force_new_loop=True)
    async def reload(self, key: int = 1) -> bytes:
        return bytes(key)

    @staticmethod
    @sync_to_async
    def size(path: str) -> int:
        return len(path)

    @classmethod
    @sync_to_async
    def open(cls, path: str) -> "Repository":
        return cls()

    @classmethod
    @async_to_sync
    async def connect(cls, url: str, *, retries: int = 0) -> "Repository":
        return cls()

    @classmethod
    def names(cls, prefix: str) -> list[str]:
        return [prefix]

    def title(self, key: int) -> str:
        return str(key)

    async def headline(self, key: int) -> str:
        return str(key)

    atitle = sync_to_async(title)
    title_object = SyncToAsync(title)
    headline_object = AsyncToSync(headline)


async def methods_from_async_code(repository: Repository) -> None:
    coroutine: Coroutine[Any, Any, str] = repository.find(1, strict=True)
    assert_type(await coroutine, str)
    assert_type(await Repository.find(repository, 1), str)
    assert_type(await repository.count(), int)
    assert_type(await Repository.size("a"), int)
    assert_type(await repository.atitle(1), str)
    assert_type(await sync_to_async(repository.title)(1), str)
    assert_type(await repository.title_object(1), str)
    assert_type(await Repository.title_object(repository, 1), str)

    await repository.find("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.find()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.count(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.title_object(b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def methods_from_sync_code(repository: Repository) -> None:
    assert_type(repository.load(1), bytes)
    assert_type(Repository.load(repository, 1), bytes)
    assert_type(repository.reload(), bytes)
    assert_type(async_to_sync(repository.headline)(1), str)
    assert_type(repository.headline_object(1), str)

    repository.load("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.headline_object()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def classmethods_from_async_code() -> None:
    assert_type(await Repository.open("a"), Repository)
    assert_type(await Repository().open("a"), Repository)
    assert_type(await sync_to_async(Repository.names)("a"), list[str])
    assert_type(await sync_to_async(Repository)(), Repository)

    await Repository.open(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def classmethods_from_sync_code() -> None:
    assert_type(Repository.connect("a", retries=1), Repository)

    Repository.connect()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def scale(factor: int, value: float) -> float:
    return factor * value


async def ascale(factor: int, value: float) -> float:
    return factor * value


async def partials_from_async_code() -> None:
    assert_type(await sync_to_async(partial(scale, 2))(1.5), float)
    assert_type(await sync_to_async(lambda: 1)(), int)


def partials_from_sync_code() -> None:
    assert_type(async_to_sync(partial(ascale, 2))(1.5), float)


def first(items: list[_T]) -> _T:
    return items[0]


async def afirst(items: list[_T]) -> _T:
    return items[0]


class Box(Generic[_T]):
    """A generic class: the bridged method knows the type of the box's content."""

    def __init__(self, value: _T) -> None:
        self.value = value

    @sync_to_async
    def get(self) -> _T:
        return self.value

    @async_to_sync
    async def wait(self) -> _T:
        return self.value


async def generics_from_async_code() -> None:
    assert_type(await Box("a").get(), str)
    assert_type(await sync_to_async(first)([1]), int)


def generics_from_sync_code() -> None:
    assert_type(Box(1).wait(), int)
    assert_type(async_to_sync(afirst)(["a"]), str)


def logged(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """A user's decorator, below and above the bridge."""

    @wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return function(*args, **kwargs)

    return wrapper


@sync_to_async
@logged
def bridged_last(number: int) -> str:
    return str(number)


@logged
@async_to_sync
async def bridged_first(number: int) -> str:
    return str(number)


async def decorators_from_async_code() -> None:
    assert_type(await bridged_last(1), str)
    assert_type(await sync_to_async(thread_sensitive=False)(scale)(1, 2.0), float)

    await bridged_last("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def decorators_from_sync_code() -> None:
    assert_type(bridged_first(1), str)
    assert_type(async_to_sync(force_new_loop=True)(ascale)(1, 2.0), float)


async def numbers() -> AsyncIterator[int]:
    yield 1


async def iterators() -> None:
    async for text in sync_to_async_iterator(["a"], batch=10):
        assert_type(text, str)
    with ProcessPoolExecutor() as executor:
        length = sync_to_async(len, thread_sensitive=False, executor=executor)
        assert_type(await length("abc"), int)


def iterators_from_sync_code() -> None:
    for number in async_to_sync_iterator(numbers()):
        assert_type(number, int)


async_to_sync(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
sync_to_async("no function")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
