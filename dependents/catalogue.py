"""The list of all suites.

Each suite gets the additional packages that its authors install, except linters, coverage tools,
and packages that need a server or a browser. Tests that need those skip or fail equally on both
sides.
"""

from .adapters import ADAPTER_SUITES
from .redis_server import redis_beside
from .suite import DjangoItself, DjangoTests, Pytest, Suite

FOR_DJANGO = "aiosmtpd argon2-cffi bcrypt docutils jinja2 Pillow PyYAML redis pymemcache tzdata"

SUITES = (
    Suite("django52", "Django>=5.2,<5.3", DjangoItself(), needs=FOR_DJANGO),
    Suite("django", "Django>=6", DjangoItself(), needs=FOR_DJANGO),
    Suite("channels", "channels", Pytest(), source_may_lack_tests=True),
    Suite(
        "channels-redis",
        "channels-redis",
        Pytest(),
        extras="[cryptography]",
        needs="pytest-asyncio async-timeout",
        beside=redis_beside,
    ),
    Suite("daphne", "daphne", Pytest(), needs="pytest-asyncio django hypothesis"),
    Suite(
        "flask",
        "Flask",
        Pytest(),
        extras="[async]",
        needs="greenlet python-dotenv pytest<9.1",  # its tests import names that newer ones lack
    ),
    Suite(
        "debug-toolbar",
        "django-debug-toolbar",
        DjangoTests(),
        needs="daphne django-csp django-template-partials html5lib jinja2 pygments selenium"
        " whitenoise",
        environ={
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DB_BACKEND": "sqlite3",
            "DB_NAME": ":memory:",
        },
    ),
    Suite(
        "eventstream",
        "django-eventstream",
        DjangoTests(),
        needs="djangorestframework",
        environ={"DJANGO_SETTINGS_MODULE": "dependents_eventstream"},
    ),
    Suite(
        "opentelemetry",
        "opentelemetry-instrumentation-asgi",
        Pytest(),
        needs="opentelemetry-sdk requests",
        alone="opentelemetry-test-utils",  # sometimes requires the previous patch release
    ),
    Suite(
        "newrelic",
        "newrelic",
        Pytest(targets=(".",), folder="tests/adapter_asgiref"),
        needs="WebTest",
        environ={"PYTHONPATH": "{source}/tests"},
    ),
    Suite(
        "sentry",
        "sentry-sdk",
        Pytest(
            targets=("tests/integrations/asgi", "tests/integrations/django/asgi"),
            options=("-o", "addopts="),  # its own options measure coverage
        ),
        needs="pytest<9 pytest-asyncio pytest-django pytest-forked pytest-localserver"
        " async-asgi-testclient channels[daphne] django djangorestframework executing jsonschema"
        " responses werkzeug",
        environ={"DJANGO_SETTINGS_MODULE": "tests.integrations.django.myapp.settings"},
    ),
    *ADAPTER_SUITES,
)
