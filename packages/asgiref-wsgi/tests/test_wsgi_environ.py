"""The conversion of a scope to an environ; these tests use no threads."""

import pytest
from wsgi_client import http_scope

from asgiref.wsgi import WsgiToAsgiInstance
from asgiref.wsgi._environ import BadRequest, Framing, build_environ, read_framing


def environ_of(*, limit=100, allow_underscores=False, **scope):
    return build_environ(
        http_scope(**scope),
        None,
        duplicate_header_limit=limit,
        allow_underscores=allow_underscores,
        multithread=True,
    )


def paths_of(root_path, path, **scope):
    environ = environ_of(root_path=root_path, path=path, raw_path=None, **scope)
    return environ["SCRIPT_NAME"], environ["PATH_INFO"]


@pytest.mark.parametrize(
    ("root_path", "path", "expected"),
    [
        ("", "/", ("", "/")),
        ("", "/a/b", ("", "/a/b")),
        ("/app", "/app/a", ("/app", "/a")),
        ("/app", "/app", ("/app", "")),
        ("/app", "/app/", ("/app", "/")),
        ("/app/", "/app/a", ("/app", "/a")),
        ("/app/", "/app", ("/app", "")),
        ("/app", "/application", ("/app", "/application")),
        ("/app", "/a", ("/app", "/a")),
        ("/", "/a", ("", "/a")),
        ("/a/b", "/a/b/c", ("/a/b", "/c")),
        ("app", "/app/a", ("/app", "/a")),
        ("", "", ("", "")),
        ("", "*", ("", "*")),
    ],
)
def test_the_script_name_is_cut_where_a_segment_ends(root_path, path, expected):
    assert paths_of(root_path, path) == expected


def test_paths_are_latin_1_strings_of_their_bytes():
    script_name, path_info = paths_of("/中国", "/中国/中文")
    assert script_name.encode("latin-1").decode() == "/中国"
    assert path_info.encode("latin-1").decode() == "/中文"


@pytest.mark.parametrize(
    ("path", "root_path", "raw_path"),
    [
        ("/caf\ufffd", "", b"/caf%E9"),
        ("/caf\ufffd", "", b"/caf%E9?query"),
        ("/app/caf\ufffd", "/app", b"/app/caf%E9"),
        ("/app/caf\ufffd", "/app", b"/caf%E9"),
        ("/café", "", b"/caf%E9"),
        ("/caf\udce9", "", None),
    ],
)
def test_bytes_that_are_not_utf_8_are_recovered(path, root_path, raw_path):
    environ = environ_of(path=path, root_path=root_path, raw_path=raw_path)
    assert environ["PATH_INFO"] == "/caf\xe9"


def test_a_path_that_middleware_changed_wins_over_the_raw_one():
    environ = environ_of(path="/new/\ufffd", raw_path=b"/old/%E9")
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/new/\ufffd"


@pytest.mark.parametrize("path", ["/\ud800", "/\udfff\ud800", "/\udce9/\ud800x"])
def test_lone_surrogates_never_crash(path):
    environ = environ_of(path=path, root_path=path, raw_path=None)
    assert environ["SCRIPT_NAME"].encode("latin-1")
    assert environ["PATH_INFO"] == ""
    assert environ["REQUEST_URI"].isascii()


@pytest.mark.parametrize(
    ("query", "expected"),
    [(b"a=b", "a=b"), (b"\xe9\x00\xff", "\xe9\x00\xff"), (b"", ""), (None, "")],
)
def test_the_query_string_holds_any_byte(query, expected):
    assert environ_of(query_string=query)["QUERY_STRING"] == expected


def test_the_query_string_may_be_missing():
    scope = http_scope()
    del scope["query_string"]
    assert WsgiToAsgiInstance(None).build_environ(scope, None)["QUERY_STRING"] == ""


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b"}, "/a%20b"),
        ({"path": "/a", "raw_path": b"/a", "query_string": b"x=1"}, "/a?x=1"),
        ({"path": "/a", "raw_path": b"/a?x=1", "query_string": b"x=1"}, "/a?x=1"),
        ({"path": "/ä b", "raw_path": None}, "/%C3%A4%20b"),
    ],
)
def test_the_request_uri_is_what_the_client_sent(scope, expected):
    assert environ_of(**scope)["REQUEST_URI"] == expected


@pytest.mark.parametrize(
    ("server", "scheme", "expected"),
    [
        (("example.org", 8080), "http", ("example.org", "8080")),
        (["/run/web.sock", None], "http", ("/run/web.sock", "0")),
        (None, "http", ("localhost", "80")),
        (None, "https", ("localhost", "443")),
    ],
)
def test_the_server_has_a_name_and_a_port(server, scheme, expected):
    environ = environ_of(server=server, scheme=scheme)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected


def test_the_client_is_named_if_it_is_known():
    environ = environ_of(client=["10.0.0.1", 5000])
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("10.0.0.1", "5000")
    assert not {"REMOTE_ADDR", "REMOTE_PORT"} & environ_of(client=None).keys()


def test_https_is_set_in_the_environ():
    assert environ_of(scheme="https")["HTTPS"] == "on"
    assert environ_of(scheme="https")["wsgi.url_scheme"] == "https"
    assert "HTTPS" not in environ_of()


@pytest.mark.parametrize("version", ["1.0", "1.1", "2", "3"])
def test_the_protocol_is_the_client_s(version):
    assert environ_of(http_version=version)["SERVER_PROTOCOL"] == f"HTTP/{version}"


def test_the_environ_contains_the_scope():
    scope = http_scope(state={"database": 1})
    assert WsgiToAsgiInstance(None).build_environ(scope, None)["asgi.scope"] is scope


@pytest.mark.parametrize("name", [b"x-colour", b"X-Colour", b"X-COLOUR"])
def test_header_names_come_in_any_case(name):
    assert environ_of(headers=[(name, b"blue")])["HTTP_X_COLOUR"] == "blue"


def test_repeated_headers_are_joined():
    environ = environ_of(
        headers=[(b"Accept", b"a"), (b"cookie", b"x=1"), (b"accept", b"b"), (b"Cookie", b"y=2")]
    )
    assert environ["HTTP_ACCEPT"] == "a,b"
    assert environ["HTTP_COOKIE"] == "x=1; y=2"


def test_header_values_hold_any_byte():
    assert environ_of(headers=[(b"x", b"\xff\x00")])["HTTP_X"] == "\xff\x00"


def test_content_headers_have_no_prefix():
    environ = environ_of(headers=[(b"Content-Type", b"text/plain"), (b"Content-Length", b"5")])
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/plain", "5")
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


@pytest.mark.parametrize(
    "name",
    [b"x_user", b"X_USER", b"proxy", b"Proxy", b"content_length", b"", b"a b", b"a:", b"\xe9"],
)
def test_names_that_could_pose_as_another_are_dropped(name):
    assert environ_of(headers=[(name, b"root")]) == environ_of(headers=[]) | {
        "asgi.scope": http_scope(headers=[(name, b"root")])
    }


def test_underscores_can_be_allowed():
    environ = environ_of(
        headers=[(b"x_user", b"me"), (b"content_length", b"7"), (b"content_type", b"x")],
        allow_underscores=True,
    )
    assert environ["HTTP_X_USER"] == "me"
    assert not {"CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"} & environ.keys()


def test_the_limit_counts_each_name():
    headers = [(b"a", b"1"), (b"b", b"1")] * 3
    assert environ_of(headers=headers, limit=3)["HTTP_A"] == "1,1,1"
    with pytest.raises(ValueError, match="Too many duplicate headers: HTTP_A"):
        environ_of(headers=headers, limit=2)


@pytest.mark.parametrize("limit", [None, 0])
def test_the_limit_can_be_off(limit):
    assert environ_of(headers=[(b"a", b"1")] * 500, limit=limit)["HTTP_A"].count("1") == 500


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1_000", b"0x10", b"1.0", b"\xb2", b"9" * 30]
)
def test_a_content_length_that_is_not_a_number_is_a_bad_request(value):
    with pytest.raises(BadRequest, match="Content-Length is not a number"):
        environ_of(headers=[(b"content-length", value)])


def test_conflicting_content_lengths_are_a_bad_request():
    with pytest.raises(BadRequest, match="conflict"):
        environ_of(headers=[(b"content-length", b"1"), (b"Content-Length", b"2")])


def test_equal_content_lengths_are_one():
    headers = [(b"content-length", b"5"), (b"Content-Length", b" 5, 5 ")]
    assert environ_of(headers=headers)["CONTENT_LENGTH"] == "5"


def test_transfer_encoding_overrides_content_length():
    headers = [(b"content-length", b"nonsense"), (b"transfer-encoding", b"chunked")]
    environ = environ_of(headers=headers)
    assert "CONTENT_LENGTH" not in environ
    assert environ["wsgi.input_terminated"] is True
    assert read_framing(headers) == Framing(None, is_encoded=True)


def test_the_framing_is_read_from_the_headers():
    assert read_framing([]) == Framing()
    headers = [(b"Expect", b" 100-Continue"), (b"Content-Length", b"12")]
    assert read_framing(headers) == Framing(12, expects_continue=True)
