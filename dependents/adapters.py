"""The suites that run WsgiToAsgi in place of other adapters, with the intended differences.

Each reason is a decision of this project or a limit of ASGI. A failing test without a reason fails
the run.
"""

from .suite import Pytest, Suite

EXC_INFO = (
    "expects the error of exc_info to be raised although no header is sent; PEP 3333 has the new"
    " headers replace the old ones"
)
TRIO = "asyncio only"
ITS_OWN_ENVIRON = "has an environ that no server makes, and the adapter makes a valid one"
TEXT = "yields str, which PEP 3333 refuses"
OPTIONS = ("-o", "addopts=", "-o", "filterwarnings=default")

ADAPTER_SUITES = (
    Suite(
        "adapter-a2wsgi",
        "a2wsgi",
        Pytest(targets=("tests/test_wsgi.py",)),
        needs="httpx pytest-asyncio",
        adapter="a2wsgi",
        expected={"tests/test_wsgi.py::test_wsgi_exc_info": EXC_INFO},
    ),
    Suite(
        "adapter-uvicorn",
        "uvicorn",
        Pytest(targets=("tests/middleware/test_wsgi.py",), options=OPTIONS),
        needs="a2wsgi httpx2 anyio trustme cryptography websockets wsproto typing-extensions",
        adapter="uvicorn",
    ),
    Suite(
        "adapter-starlette",
        "starlette",
        Pytest(targets=("tests/middleware/test_wsgi.py",), options=OPTIONS),
        extras="[full]",
        needs="trio httpx2",
        adapter="starlette",
        expected={
            "tests/middleware/test_wsgi.py::test_wsgi_exc_info[asyncio]": EXC_INFO,
            "tests/middleware/test_wsgi.py::test_wsgi_exc_info[trio]": TRIO,
            "tests/middleware/test_wsgi.py::test_wsgi_get[trio]": TRIO,
            "tests/middleware/test_wsgi.py::test_wsgi_post[trio]": TRIO,
        },
    ),
    Suite(
        "adapter-hypercorn",
        "hypercorn",
        Pytest(targets=("tests/test_app_wrappers.py",), options=OPTIONS),
        needs="pytest-asyncio pytest-trio trio",
        adapter="hypercorn",
        expected={
            "tests/test_app_wrappers.py::test_wsgi_trio": TRIO,
            "tests/test_app_wrappers.py::test_wsgi_asyncio": (
                "compares events: here the last one has no body, which means the same"
            ),
            "tests/test_app_wrappers.py::test_max_body_size": (
                "expects status 400; we send 413 with a text"
            ),
        },
    ),
    Suite(
        "adapter-flask",
        "Flask",
        Pytest(options=OPTIONS),
        extras="[async]",
        needs="greenlet python-dotenv pytest<9.1",
        adapter="werkzeug",
        expected={
            "tests/test_basic.py::test_baseexception_error_handling": (
                "expects a BaseException to propagate; it would end the server's event loop, so the server"
                " gets a RuntimeError that names it"
            ),
        },
    ),
    Suite(
        "adapter-connexion",
        "connexion",
        Pytest(options=OPTIONS),
        extras="[flask,swagger-ui,uvicorn]",
        needs="pytest-asyncio aiohttp decorator httpx",
        archive="https://github.com/spec-first/connexion/archive/refs/tags/{version}.tar.gz",
        adapter="a2wsgi",
    ),
    Suite(
        "adapter-werkzeug",
        "Werkzeug",
        Pytest(
            targets=("tests", "--ignore=tests/test_serving.py"),  # uses its own server
            options=OPTIONS,
        ),
        needs="ephemeral-port-reserve watchdog cryptography",
        adapter="werkzeug",
        expected={
            "tests/middleware/test_lint.py::test_lint_middleware_check_environ"
            "[wsgi.version-value0-Environ is not a WSGI 1.0 environ.]": ITS_OWN_ENVIRON,
            "tests/middleware/test_lint.py::test_lint_middleware_check_environ"
            "[SCRIPT_NAME-test-'SCRIPT_NAME' does not start with a slash:]": ITS_OWN_ENVIRON,
            "tests/middleware/test_lint.py::test_lint_middleware_invalid_status": (
                "expects a warning; start_response refuses the status"
            ),
            "tests/test_test.py::test_path_info_script_name_unquoting": TEXT,
            "tests/test_test.py::test_raw_request_uri": (
                "expects the question mark of an empty query, which a scope of ASGI does not have"
            ),
            "tests/test_utils.py::test_append_slash_redirect"
            "[True-foo-http://example.org/app-http://example.org/app/foo/]": ITS_OWN_ENVIRON,
            "tests/test_wrappers.py::test_base_response": TEXT,
            "tests/test_wsgi.py::test_closing_iterator": TEXT,
        },
    ),
)
