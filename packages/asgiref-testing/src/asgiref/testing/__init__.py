"""Drive an ASGI application from a test: send it events, look at what it sends back.

>>> import asyncio
>>> async def application(scope, receive, send):
...     event = await receive()
...     await send({"type": "chat.reply", "text": event["text"].upper()})
>>> async def main():
...     async with ApplicationCommunicator(application, {"type": "chat"}) as communicator:
...         await communicator.send_input({"type": "chat.message", "text": "hello"})
...         return await communicator.receive_output()
>>> asyncio.run(main())
{'type': 'chat.reply', 'text': 'HELLO'}

Modules: ``_communicator`` (the public class), ``_output`` (the queue of what the application sent,
which can be waited on without taking from it), ``_report`` (what error messages say of it).
"""

from ._communicator import ApplicationCommunicator

__all__ = ["ApplicationCommunicator"]
