"""`Local`, and the two classes that its instances are of."""

from typing import TYPE_CHECKING, Any, NoReturn

from ._accessors import make_fallback
from ._attributes import Attributes, LoopShelf, Shelf
from ._following import following_accessors
from ._staying import staying_accessors

__all__ = ["Local"]


class Local:
    """A namespace whose attributes follow the running code: `threading.local` for asyncio, too.

    Set, read and delete attributes. What is set in a thread without a running event loop belongs
    to that thread. What is set in async code belongs to that code: awaited coroutines and tasks
    started from it see it, and so does everything else that runs in a copy of its context, such as
    `asyncio.to_thread`; what one of them changes is not seen by its parent or its siblings.
    ``sync_to_async`` and ``async_to_sync`` of asgiref-sync carry values there and changes back.

    With ``thread_critical=True`` values stay: synchronous code sees what its thread set, async
    code what was set in its context while the same event loop ran, and nothing crosses the bridge.
    For objects that must not be used from another thread.

    Any thread and any task may use one Local at the same time; nothing waits, nothing is lost.
    Values die with the Local, and with the last context (or thread) that they were set in.

    Args:
        thread_critical: keep values on their thread.

    Raises:
        TypeError: for a subclass.
        AttributeError: on reading an attribute that is not set, and on setting or deleting one that
            every Python object has (``__class__`` and the like), ``__dict__``, ``__slots__``,
            ``__weakref__`` or ``_data``. Any other name can be used.

    >>> import asyncio
    >>> request = Local()
    >>> async def handle(number):
    ...     request.number = number
    ...     await asyncio.sleep(0)
    ...     return await asyncio.to_thread(lambda: request.number)
    >>> async def handle_three():
    ...     return await asyncio.gather(handle(1), handle(2), handle(3))
    >>> asyncio.run(handle_three())
    [1, 2, 3]
    >>> hasattr(request, "number")
    False
    """

    __slots__ = ("__weakref__",)

    def __new__(cls, thread_critical: bool = False) -> "Local":
        if cls is not Local:
            raise TypeError(
                f"{cls.__qualname__}: asgiref.local.Local cannot be subclassed, "
                "keep a Local in an attribute instead"
            )
        if thread_critical:
            local: Local = object.__new__(_ThreadCriticalLocal)
            shelf_type: type[Shelf] = LoopShelf
            make_accessors = staying_accessors
        else:
            local = object.__new__(_DefaultLocal)
            shelf_type = Shelf
            make_accessors = following_accessors
        label = repr(local)
        accessors = make_accessors(Attributes(label, shelf_type), make_fallback(local, label))
        accessors.install(local)
        return local

    if TYPE_CHECKING:

        def __getattr__(self, name: str, /) -> Any: ...
        def __setattr__(self, name: str, value: Any, /) -> None: ...
        def __delattr__(self, name: str, /) -> None: ...

    def __repr__(self) -> str:
        return f"<asgiref.local.Local at {id(self):#x}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or pickled: its values belong to running code")


class _DefaultLocal(Local):
    """A Local whose values follow the code."""

    __slots__ = ("__delattr__", "__dir__", "__getattribute__", "__setattr__")


class _ThreadCriticalLocal(Local):
    """A Local whose values stay on their thread."""

    __slots__ = ("__delattr__", "__dir__", "__getattribute__", "__setattr__")

    def __repr__(self) -> str:
        return f"<asgiref.local.Local(thread_critical=True) at {id(self):#x}>"
