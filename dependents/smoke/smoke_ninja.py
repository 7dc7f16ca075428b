import pytest
from django_setup import configure, pages

configure(__name__)

from django.urls import path  # noqa: E402
from ninja import NinjaAPI  # noqa: E402

api = NinjaAPI()


@api.get("/async")
async def answer_async(request, number: int):
    return {"number": number}


@api.get("/sync")
def answer_sync(request, number: int):
    return {"number": number}


urlpatterns = [path("", api.urls)]


@pytest.mark.parametrize("address", ["/async?number=1", "/sync?number=1"])
def test_an_operation_answers(address):
    assert [page.json() for page in pages(address)] == [{"number": 1}] * 2
