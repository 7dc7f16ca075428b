"""Numbers as OpenTelemetry metrics, and the status on the command line."""

import asyncio
import json
import sys
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pieces import Gateway, echo, running, until, worker
from real_redis import RealRedis

from asgiref.redis._cli import main

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


def readings(reader: InMemoryMetricReader, connection: str) -> dict[str, Any]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found = json.loads(data.to_json())
    return {
        metric["name"].removeprefix("asgiref.redis."): point["value"]
        for resource in found["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
        if point["attributes"]["asgiref.redis.connection"] == connection
    }


async def test_a_worker_and_a_gateway_tell_their_numbers(
    shared_redis: RealRedis, connection: str, reader: InMemoryMetricReader
) -> None:
    url = shared_redis.url
    server = worker(echo, url, connection)
    async with running(Gateway(url, connection)) as gateway, running(server):
        for _ in range(3):
            await gateway.say("ada")
            await gateway.heard()
        await until(lambda: server.handled == 3 and gateway.delivered == 3)
        found = readings(reader, connection)
        assert found["worker.handled"] == 3
        assert found["worker.partitions"] == 8
        assert found["gateway.stored"] == 3
        assert found["gateway.delivered"] == 3
        assert found["gateway.backlog"] == 0
    assert readings(reader, connection) == {}


async def test_without_the_api_everything_works(
    shared_redis: RealRedis, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway, running(worker(echo, url, connection)):
        await gateway.say("ada")
        assert (await gateway.heard())["scope"] == "ada"


async def test_the_status_as_a_table_and_as_json(
    shared_redis: RealRedis, connection: str, capfd: pytest.CaptureFixture[str]
) -> None:
    url = shared_redis.url
    server = worker(echo, url, connection, name="worker-a")
    arguments = ["status", "--url", url, "--connection", connection]
    async with running(Gateway(url, connection, name="gate")), running(server):
        await until(lambda: len(server.partitions) == 8)
        assert await asyncio.to_thread(main, [*arguments, "--once"]) == 0
        lines = capfd.readouterr().out.splitlines()
        head = f"connection {connection}, gateway gate, workers group: 1, streams "
        assert lines[0].startswith(head)
        assert lines[1].split()[:4] == ["partition", "group", "holder", "lag"]
        assert [line.split()[:3] for line in lines[2:10]] == [
            [str(number), "group", "worker-a"] for number in range(8)
        ]
        assert lines[10].split() == ["all", *6 * "0"]
        assert await asyncio.to_thread(main, [*arguments, "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert found["workers"] == {"group": ["worker-a"]}


async def test_a_group_without_workers_can_be_removed_and_streams_are_trimmed_then(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    remove = ["remove-group", "old", "--url", url, "--connection", connection]
    async with running(Gateway(url, connection)):
        async with running(worker(echo, url, connection, group="old")) as server:
            await until(lambda: len(server.partitions) == 8)
            assert await asyncio.to_thread(main, remove) == 1
        assert await asyncio.to_thread(main, remove) == 0
        assert await asyncio.to_thread(main, remove) == 1
