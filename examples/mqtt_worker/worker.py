"""Publish the averages of sensor values through an MQTT broker: ``python worker.py HOST``."""

import argparse
import asyncio
import logging
from importlib.metadata import version
from typing import Any

import aiomqtt

from asgiref.server import Reconnect, StatelessServer

__all__ = ["MqttWorker", "averages"]

SOURCE = "sensors/"


async def averages(scope: Any, receive: Any, send: Any) -> None:
    """Average the values of one sensor, and keep the state in local variables."""
    count, total = 0, 0.0
    name = scope["topic"].removeprefix(SOURCE)
    while True:
        message = await receive()
        count, total = count + 1, total + float(message["payload"])
        payload = f"{total / count:g} of {count}"
        await send({"type": "mqtt.publish", "topic": f"averages/{name}", "payload": payload})


class MqttWorker(StatelessServer):
    """Serves ``application`` to every topic below ``sensors/``."""

    def __init__(self, application: Any, host: str, port: int = 1883) -> None:
        self._reconnect = Reconnect(first_delay=0.5, max_delay=30)
        super().__init__(application, queue_size=100, idle_timeout=3600, reconnect=self._reconnect)
        self._host, self._port = host, port
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()

    async def handle(self) -> None:
        """Pass messages to the scopes of their topics until the connection is lost."""
        try:
            async with aiomqtt.Client(self._host, self._port) as self._client:
                await self._client.subscribe(f"{SOURCE}#", qos=1)
                self._reconnect.established()
                self._connected.set()
                async for message in self._client.messages:
                    topic = str(message.topic)
                    scope = {"type": "mqtt", "topic": topic}
                    queue = self.get_or_create_application_instance(topic, scope)
                    await queue.put({"type": "mqtt.message", "payload": message.payload})
        finally:
            self._connected.clear()

    async def application_send(self, scope: Any, message: Any) -> None:
        """Publish a message; if the connection is lost, wait until it is restored."""
        while True:
            await self._connected.wait()
            client = self._client
            assert client is not None
            try:
                await client.publish(message["topic"], message["payload"], qos=1)
                return
            except aiomqtt.MqttError:
                if client is self._client:  # `handle` has not noticed the loss yet
                    self._connected.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", action="version", version=version("asgiref-server"))
    parser.add_argument("host", metavar="HOST", help="the broker's name or address")
    parser.add_argument(
        "--port", type=int, default=1883, metavar="PORT", help="its port (default: %(default)s)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    MqttWorker(averages, arguments.host, arguments.port).run()


if __name__ == "__main__":
    main()
