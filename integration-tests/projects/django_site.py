"""Send requests to a one-file Django project through ASGI and WSGI; print the answers as JSON.

Sync and async views run behind a sync and an async middleware, so every request crosses the bridge
in both directions under both handlers.
"""

import asyncio
import json
import threading
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection
from django.http import JsonResponse
from django.urls import path
from django.utils.decorators import async_only_middleware, sync_only_middleware

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator


def count_tables():
    from django.contrib.contenttypes.models import ContentType

    return ContentType.objects.count(), threading.get_ident()


def sync_view(request):
    count, _ = count_tables()
    return JsonResponse({"view": "sync", "types": count, "asked": request.GET.get("q")})


async def async_view(request):
    from django.contrib.contenttypes.models import ContentType

    count = await ContentType.objects.acount()
    _, thread = await sync_to_async(count_tables)()
    _, again = await sync_to_async(count_tables)()
    return JsonResponse(
        {
            "view": "async",
            "types": count,
            "same_thread": thread == again,
            "asked": request.GET.get("q"),
        }
    )


async def failing_view(request):
    raise ValueError("on purpose")


@sync_only_middleware
def sync_middleware(get_response):
    def middleware(request):
        response = get_response(request)
        response["X-Sync"] = "passed"
        return response

    return middleware


@async_only_middleware
def async_middleware(get_response):
    async def middleware(request):
        response = await get_response(request)
        response["X-Async"] = "passed"
        return response

    return middleware


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("failing", failing_view),
]


def configure(folder):
    settings.configure(
        SECRET_KEY="only for this test",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[f"{__name__}.sync_middleware", f"{__name__}.async_middleware"],
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}
        },
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", verbosity=0)


def described(status, headers, body):
    headers = {name.lower(): value for name, value in headers}
    return {
        "status": status,
        "sync": headers.get("x-sync"),
        "async": headers.get("x-async"),
        "body": json.loads(body) if headers["content-type"] == "application/json" else None,
    }


async def through_asgi(application, url):
    communicator = ApplicationCommunicator(
        application,
        {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": url,
            "query_string": b"q=%C3%BC",
            "headers": [(b"host", b"testserver")],
        },
    )
    await communicator.send_input({"type": "http.request"})
    start = await communicator.receive_output(timeout=20)
    body = b""
    more = True
    while more:
        message = await communicator.receive_output(timeout=20)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await communicator.wait(timeout=20)
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return described(start["status"], headers, body)


def through_wsgi(application, url):
    answer = {}

    def start_response(status, headers):
        answer.update(status=int(status[:3]), headers=headers)

    response = application(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": url,
            "QUERY_STRING": "q=%C3%BC",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
        },
        start_response,
    )
    body = b"".join(response)
    response.close()
    return described(answer["status"], answer["headers"], body)


async def many_at_once(application):
    answers = await asyncio.gather(*(through_asgi(application, "/sync") for _ in range(30)))
    return sum(answer["status"] == 200 for answer in answers)


def main(folder):
    configure(folder)
    asgi, wsgi = ASGIHandler(), WSGIHandler()
    urls = ["/sync", "/async", "/failing"]
    seen = {
        "asgi": {url: asyncio.run(through_asgi(asgi, url)) for url in urls},
        "wsgi": {url: through_wsgi(wsgi, url) for url in urls},
        "at_once": asyncio.run(many_at_once(asgi)),
    }
    connection.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(Path(folder))
