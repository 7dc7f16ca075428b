"""A Django view's function that sends to a scope in its transaction. Argument: a database URL."""

import contextlib
import json
import sys
from urllib.parse import unquote, urlsplit

from django.conf import settings

url = urlsplit(sys.argv[1])
default = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": url.path.strip("/"),
    "USER": url.username,
    "PASSWORD": unquote(url.password or ""),
    "HOST": url.hostname,
    "PORT": url.port,
}
settings.configure(DATABASES={"default": default})

from django.db import connection, transaction  # noqa: E402

from asgiref.postgres import send_sync  # noqa: E402


def order(text: str, *, fails: bool) -> None:
    with transaction.atomic():
        send_sync("ada", {"type": "ordered", "text": text}, connection=connection)
        if fails:
            raise ValueError(text)


order("kept", fails=False)
with contextlib.suppress(ValueError):
    order("undone", fails=True)
with connection.cursor() as cursor:
    cursor.execute("SELECT convert_from(message, 'UTF8') FROM asgiref.messages")
    print(json.dumps([json.loads(text)["text"] for (text,) in cursor.fetchall()]))
