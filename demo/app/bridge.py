"""The Django application: a view that crosses the bridge and comes back, and the bridge's speed.

Django runs under its own ASGI handler, unmodified, on ``asgiref.sync`` and ``asgiref.local``. The
view runs on a worker thread, `async_to_sync` runs a coroutine on the event loop, and
`sync_to_async` returns from there to the view's own thread. The ``Local`` travels with the
call; a ``threading.local`` would not.
"""

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async

from .trace import Trace, Where

visitor: Local = Local()


def cross(request: Any) -> JsonResponse:
    """Go to the event loop and back; answer with the place of each step, and the names there."""
    trace: Trace = request.scope["demo.trace"]
    visitor.name = request.GET.get("name", "")
    view = trace.ran("Django view (under ASGI)")
    coroutine, function, names = async_to_sync(_on_the_loop)(trace)
    steps = {"view": asdict(view), "coroutine": asdict(coroutine), "function": asdict(function)}
    return JsonResponse({**steps, "names": names})


async def _on_the_loop(trace: Trace) -> tuple[Where, Where, list[str]]:
    where = trace.ran("Coroutine of that view (async_to_sync)")
    await asyncio.sleep(0)  # other requests run in the meantime, and have names of their own
    name = visitor.name
    function, same_name = await sync_to_async(_back)(trace)
    return where, function, [name, same_name]


def _back(trace: Trace) -> tuple[Where, str]:
    return trace.ran("Function of that coroutine (sync_to_async)"), visitor.name


def speed(request: Any) -> JsonResponse:
    """Time the bridge in a new process, and asgiref 3.13.0 in another one if it is installed."""
    folder = request.scope["demo.reference"]
    script = Path(__file__).with_name("speed.py")
    runs = [[], [str(folder)]] if folder.is_dir() else [[]]
    commands = [[sys.executable, "-I", str(script), *arguments] for arguments in runs]
    return JsonResponse({"runs": [json.loads(subprocess.check_output(each)) for each in commands]})


urlpatterns = [path("bridge/cross", cross), path("bridge/speed", require_POST(speed))]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])
django: Any = get_asgi_application()
