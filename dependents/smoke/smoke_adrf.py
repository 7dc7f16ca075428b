import pytest
from django_setup import configure, pages

configure(__name__, "rest_framework")

from adrf.views import APIView  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.response import Response  # noqa: E402


class AsyncView(APIView):
    async def get(self, request):
        return Response({"user": str(request.user)})


class SyncView(APIView):
    def get(self, request):
        return Response({"user": str(request.user)})


urlpatterns = [path("async", AsyncView.as_view()), path("sync", SyncView.as_view())]


@pytest.mark.parametrize("address", ["/async", "/sync"])
def test_a_view_answers(address):
    assert [page.json() for page in pages(address)] == [{"user": "AnonymousUser"}] * 2
