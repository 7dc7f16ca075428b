"""AsgiToWsgi passes a2wsgi's own tests of an ASGI application under a WSGI server.

The tests are downloaded for each run and never stored here. A module that gives AsgiToWsgi the
names that the tests import replaces their ``a2wsgi``.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from environments import Environment

VERSION = "1.10.10"
SHA256 = "a5bcffb52081ba39df0d5e9a884fc6f819d92e3a42389343ba77cbf809fe1f45"
PASSING = 9

# Tests that assert a2wsgi's private design, and the difference here.
EXCLUDED = {
    "test_asgi_exception_info": "the response to a failure has a2wsgi's own text",
    "test_background_app": "the response waits for the application's background tasks",
}

SUBSTITUTE = """
from wsgiref.util import setup_testing_defaults

from asgiref.wsgi import AsgiToWsgi


class ASGIMiddleware(AsgiToWsgi):
    def __init__(self, app, wait_time=None, loop=None):
        super().__init__(app, lifespan="off")


def build_scope(environ):
    scopes = []

    async def application(scope, receive, send):
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    environ = dict(environ)
    setup_testing_defaults(environ)
    ASGIMiddleware(application)(environ, lambda status, headers: None)
    return scopes[0]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The unpacked sdist, with its package replaced."""
    Environment(Path(sys.prefix)).pip(
        *("download", "--no-deps", "--no-binary", ":all:"),
        *("--dest", tmp_path, f"a2wsgi=={VERSION}"),
    )
    archive = tmp_path / f"a2wsgi-{VERSION}.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    with tarfile.open(archive) as sdist:
        if hasattr(tarfile, "data_filter"):  # 3.11.4 and later
            sdist.extractall(tmp_path, filter="data")
        else:
            sdist.extractall(tmp_path)
    folder = tmp_path / f"a2wsgi-{VERSION}"
    shutil.rmtree(folder / "a2wsgi")
    (folder / "a2wsgi").mkdir()
    (folder / "a2wsgi" / "asgi.py").write_text(SUBSTITUTE)
    (folder / "a2wsgi" / "__init__.py").touch()
    return folder


def test_a2wsgis_tests_of_this_direction_pass(suite: Path) -> None:
    report = suite / "report.xml"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", ".", "--junitxml", report, "tests/test_asgi.py"),
        ],
        cwd=suite,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 1, result.stdout
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {case.attrib["name"] for case in cases if case.find("failure") is not None}
    assert failed == set(EXCLUDED), result.stdout
    assert len([case for case in cases if not len(case)]) == PASSING
