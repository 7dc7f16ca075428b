from django_setup import configure, pages

configure(__name__, "health_check")

from django.urls import path  # noqa: E402
from health_check.views import HealthCheckView  # noqa: E402

CHECKS = ["health_check.Cache", "health_check.Database"]
urlpatterns = [path("", HealthCheckView.as_view(checks=CHECKS))]


def test_the_checks_pass():
    assert [page.status_code for page in pages("/?format=json")] == [200, 200]
