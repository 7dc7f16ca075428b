"""Set up Django for a smoke test, and request its pages in both ways."""

import asyncio
from typing import Any

import django
from django.conf import settings

APPS = ["django.contrib.auth", "django.contrib.contenttypes"]


def configure(urlconf: str, *apps: str, **more: Any) -> None:
    settings.configure(
        SECRET_KEY="not secret",
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[*APPS, *apps],
        ROOT_URLCONF=urlconf,
        USE_TZ=True,
        **more,
    )
    django.setup()


def pages(address: str) -> list[Any]:
    """Return the responses of Django's WSGI and ASGI handlers."""
    from django.test import AsyncClient, Client

    return [Client().get(address), asyncio.run(AsyncClient().get(address))]
