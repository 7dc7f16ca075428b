import asyncio

from django_setup import configure

configure(__name__)

import strawberry  # noqa: E402
import strawberry_django  # noqa: E402
from django.contrib.auth.models import AnonymousUser  # noqa: E402
from strawberry_django.resolvers import django_resolver  # noqa: E402

urlpatterns = []


@strawberry.type
class Query:
    @strawberry_django.field
    def sync(self) -> str:
        return str(AnonymousUser())

    @strawberry.field
    async def coroutine(self) -> str:
        return await django_resolver(lambda: str(AnonymousUser()))()


def test_sync_and_async_resolvers_answer():
    done = asyncio.run(strawberry.Schema(Query).execute("{ sync coroutine }"))
    assert done.data == {"sync": "AnonymousUser", "coroutine": "AnonymousUser"}
