"""Django's own WSGI handler behind WsgiToAsgi."""

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

from asgiref.wsgi import WsgiToAsgi

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not secret",
)
django.setup()


def hello(request):
    return HttpResponse(f"{request.method} {request.path} {request.GET.get('q', '')}")


def echo(request):
    return HttpResponse(request.body, content_type="application/octet-stream")


def numbers(request):
    return StreamingHttpResponse(f"{number}\n" for number in range(1000))


def source(request):
    return FileResponse(open(__file__, "rb"))


urlpatterns = [
    path("", hello),
    path("é/", hello),
    path("echo", echo),
    path("numbers", numbers),
    path("source", source),
]
application = WsgiToAsgi(get_wsgi_application())
