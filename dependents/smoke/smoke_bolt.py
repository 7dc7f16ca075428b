from django_setup import configure

configure(__name__)

from django.contrib.auth.models import AnonymousUser  # noqa: E402
from django_bolt import BoltAPI  # noqa: E402
from django_bolt.testing import TestClient  # noqa: E402

urlpatterns = []


def test_async_and_sync_handlers_answer():
    api = BoltAPI()

    @api.get("/async")
    async def answer_async():
        return {"user": str(AnonymousUser())}

    @api.get("/sync")
    def answer_sync():
        return {"user": str(AnonymousUser())}

    with TestClient(api) as client:
        answers = [client.get(address).json() for address in ("/async", "/sync")]
    assert answers == [{"user": "AnonymousUser"}] * 2
