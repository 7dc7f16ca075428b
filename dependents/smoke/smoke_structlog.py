from django_setup import configure, pages

MIDDLEWARE = ["django_structlog.middlewares.RequestMiddleware"]
configure(__name__, "django_structlog", MIDDLEWARE=MIDDLEWARE)

import structlog  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


async def answer(request):
    structlog.get_logger().info("answered")
    return HttpResponse("answer")


urlpatterns = [path("", answer)]


def test_the_events_of_a_request_have_its_id():
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as events:
        pages("/")
    names = [event["event"] for event in events]
    assert names == ["request_started", "answered", "request_finished"] * 2
    assert len({event["request_id"] for event in events}) == 2
