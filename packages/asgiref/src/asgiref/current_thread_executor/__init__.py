"""The executor that runs functions on a thread while that thread waits in `async_to_sync`."""

from asgiref.sync import CurrentThreadExecutor

__all__ = ["CurrentThreadExecutor"]
