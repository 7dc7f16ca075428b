"""Which labels of Django's suite touch asgiref.

Two sources, joined: the labels that are known to go through handlers, signals, connections,
sessions and middleware, where Django uses asgiref without its tests saying so; and every label
one of whose files has ``asgiref`` or ``async def`` in it, looked up in the source that was
fetched. So a label that a new release adds comes in by itself.
"""

import re
from pathlib import Path

# The first lines: handlers, dispatch, connections, sessions. The last two: what tests the other
# modules of Django that import asgiref.
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
    """The names of the folders of Django's ``tests`` folder to run."""
    folders = [each for each in tests.iterdir() if each.is_dir()]
    return sorted(
        each.name
        for each in folders
        if (each.name in KNOWN and any(each.glob("*.py"))) or _mentions(each)
    )


def _mentions(folder: Path) -> bool:
    return any(MENTIONS.search(each.read_text("utf-8")) for each in folder.rglob("*.py"))
