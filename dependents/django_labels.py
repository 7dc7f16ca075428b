"""Select the labels of Django's suite that touch asgiref.

The selection joins two sources. The first is a list of labels whose tests never mention asgiref but
use it through handlers, signals, connections, sessions and middleware. The second is every label
with ``asgiref`` or ``async def`` in one of its files, found in the downloaded source. So a label
that a new release adds is included without a change here.
"""

import re
from pathlib import Path

# The first lines are for handlers, dispatch, connections and sessions. The last two lines are for
# the other modules of Django that import asgiref.
_KNOWN = """
asgi async auth_tests backends cache csrf_tests db_utils decorators dispatch handlers logging_tests
mail messages_tests middleware middleware_exceptions servers sessions_tests signals
staticfiles_tests test_client test_client_regress transactions view_tests
contenttypes_tests deprecation i18n pagination requests_tests responses tasks timezones
urlpatterns urlpatterns_reverse
"""
KNOWN = frozenset(_KNOWN.split())
MENTIONS = re.compile(r"\basgiref\b|\basync def\b")


def labels_that_touch_asgiref(tests: Path) -> list[str]:
    """Return the names of the folders to run from Django's ``tests`` folder."""
    folders = [each for each in tests.iterdir() if each.is_dir()]
    return sorted(
        each.name
        for each in folders
        if (each.name in KNOWN and any(each.glob("*.py"))) or _mentions(each)
    )


def _mentions(folder: Path) -> bool:
    return any(MENTIONS.search(each.read_text("utf-8")) for each in folder.rglob("*.py"))
