"""Run Channels' ``runworker`` with consumers of both styles, and print their history as JSON.

One message to each consumer makes it fail; the next message reaches a new consumer. After the last
message, SIGTERM ends the worker.
"""

import json
import os
import signal

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this test",
    INSTALLED_APPS=["daphne", "channels"],
    ASGI_APPLICATION="__main__.application",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    LOGGING_CONFIG=None,
)
django.setup()

from channels.consumer import AsyncConsumer, SyncConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ChannelNameRouter, ProtocolTypeRouter  # noqa: E402
from django.core.management import call_command  # noqa: E402

from asgiref.sync import async_to_sync  # noqa: E402

JOBS = ["first", "second", "fail", "last"]
done = {"async": [], "sync": []}
consumers = {"async": set(), "sync": set()}


def work(channel, consumer, job):
    consumers[channel].add(consumer)
    done[channel].append(job)
    if job == "fail":
        raise LookupError("on purpose")
    if all(jobs == JOBS for jobs in done.values()):
        os.kill(os.getpid(), signal.SIGTERM)


class AsyncJobs(AsyncConsumer):
    async def job_run(self, event):
        work("async", self, event["job"])


class SyncJobs(SyncConsumer):
    def job_run(self, event):
        work("sync", self, event["job"])


application = ProtocolTypeRouter(
    {"channel": ChannelNameRouter({"async": AsyncJobs.as_asgi(), "sync": SyncJobs.as_asgi()})}
)

send = async_to_sync(get_channel_layer().send)
for channel in done:
    for job in JOBS:
        send(channel, {"type": "job.run", "job": job})
call_command("runworker", *done)
print(json.dumps({"done": done, "consumers": {c: len(seen) for c, seen in consumers.items()}}))
