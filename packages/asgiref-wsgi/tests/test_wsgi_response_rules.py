"""The rules for start_response and the body; these tests use no threads."""

import gc
import sys
import weakref

import pytest

from asgiref.wsgi._response import Response, parse_headers, parse_status


class Sink:
    def __init__(self):
        self.events = []
        self.flushes = []
        self.waits = 0

    def append(self, event, size):
        assert size == len(event.get("body", b""))
        self.events.append(event)

    def end(self, event, size):
        self.append(event, size)

    def flush(self):
        self.flushes.append(len(self.events))

    def wait_for_room(self):
        self.waits += 1


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def response(sink):
    response = Response()
    response.attach(sink, False)
    return response


def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def chunk(body):
    return {"type": "http.response.body", "body": body, "more_body": True}


END = {"type": "http.response.body"}


@pytest.mark.parametrize(
    ("status", "code"),
    [("200 OK", 200), ("404 Not Found", 404), ("204", 204), ("299 ", 299), ("599 \xe9\u20ac", 599)],
)
def test_a_status_line_is_a_code_and_perhaps_a_reason(status, code):
    assert parse_status(status) == code


@pytest.mark.parametrize(
    "status",
    [
        "",
        "OK",
        "20 OK",
        "2000 OK",
        "200OK",
        "100 Continue",
        "101 Switching",
        "099 No",
        "200 O\nK",
        "200 OK\r\nX: y",
        "200 \x7f",
        " 200 OK",
        "٢٠٠ OK",
        "200 OK\n",
    ],
)
def test_a_status_line_that_must_not_be_sent_is_refused(status):
    with pytest.raises(ValueError, match="status must be a three-digit code"):
        parse_status(status)


@pytest.mark.parametrize("status", [200, b"200 OK", None])
def test_a_status_is_a_str(status):
    with pytest.raises(TypeError, match="status must be a str"):
        parse_status(status)


def test_headers_become_bytes():
    assert parse_headers([("X-Colour", "Blue\xe9"), ["Set-Cookie", " a=b "]]) == (
        [(b"x-colour", b"Blue\xe9"), (b"set-cookie", b"a=b")],
        None,
    )


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "é", "a\x00", "(a)"])
def test_a_header_name_is_a_token(name):
    with pytest.raises(ValueError, match="is not a token"):
        parse_headers([(name, "x")])


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb", "a\x00b", "a\n"])
def test_a_header_value_is_one_line(value):
    with pytest.raises(ValueError, match="X-Name contains a line break"):
        parse_headers([("X-Name", value)])


def test_a_header_value_is_latin_1():
    with pytest.raises(ValueError, match="X-Name is not latin-1"):
        parse_headers([("X-Name", "€")])


@pytest.mark.parametrize("header", [(b"a", "b"), ("a", b"b"), ("a", 1), ("a", None)])
def test_headers_are_str(header):
    with pytest.raises(TypeError, match="must be str"):
        parse_headers([header])


def test_the_connection_belongs_to_the_server():
    names = ["Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Transfer-Encoding"]
    dropped = []
    assert parse_headers([(name, "x\n") for name in names], dropped.append) == ([], None)
    assert dropped == names


def test_content_lengths_agree_or_are_refused():
    assert parse_headers([("Content-Length", "5"), ("content-length", "05")]) == (
        [(b"content-length", b"5")],
        5,
    )
    with pytest.raises(ValueError, match="two Content-Lengths, 5 and 6"):
        parse_headers([("Content-Length", "5"), ("Content-Length", "6")])
    for value in ("", "-1", "x", "1.5", "²"):
        with pytest.raises(ValueError, match="must be a number of bytes"):
            parse_headers([("Content-Length", value)])


def test_the_events_are_start_chunks_end(response, sink):
    response.start("200 OK", [("X", "y")])
    response.relay(iter([b"one", b"two"]))
    assert sink.events == [start(200, [(b"x", b"y")]), chunk(b"one"), chunk(b"two"), END]


def test_each_chunk_is_flushed_unless_all_are_ready(response, sink):
    response.start("200 OK", [])
    response.relay(iter([b"one", b"two"]))
    assert sink.flushes == [2, 3]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_needs_no_flush(kind, response, sink):
    response.start("200 OK", [])
    response.relay(kind([b"one", b"two"]))
    assert sink.flushes == []
    assert sink.waits == 2


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_headers_are_sent_at_the_end_of_an_empty_body(chunks, response, sink):
    response.start("200 OK", [])
    response.relay(chunks)
    assert sink.events == [start(), *[chunk(b"")][: len(chunks)], END]


def test_headers_wait_for_the_first_non_empty_chunk(response, sink):
    response.start("200 OK", [])
    response.add(b"")
    assert sink.events == []
    response.add(b"x")
    assert sink.events == [start(), chunk(b"x")]


def test_start_response_comes_before_the_body(response):
    with pytest.raises(RuntimeError, match="before it called start_response"):
        response.add(b"x")
    with pytest.raises(RuntimeError, match="before it called start_response"):
        response.finish()


def test_a_second_start_response_needs_exc_info(response):
    response.start("200 OK", [])
    with pytest.raises(ValueError, match="second time without exc_info"):
        response.start("200 OK", [])


def exc_info_of(kind, *args):
    try:
        raise kind(*args)
    except kind:
        return sys.exc_info()


def test_the_status_of_the_last_start_response_is_sent(response, sink):
    response.start("200 OK", [("Content-Length", "3")])
    response.add(b"")
    response.start("500 Oh", [], exc_info_of(KeyError))
    response.relay([b"a long story"])
    assert sink.events == [start(500), chunk(b"a long story"), END]


def test_exc_info_is_raised_once_headers_are_sent(response):
    response.start("200 OK", [])
    response.add(b"x")
    with pytest.raises(KeyError, match="culprit") as caught:
        response.start("500 Oh", [], exc_info_of(KeyError, "culprit"))
    assert caught.traceback[-1].name == "exc_info_of"


def test_exc_info_creates_no_reference_cycle(response):
    class Culprit(Exception):
        pass

    response.start("200 OK", [])
    response.add(b"x")
    gc.disable()
    try:
        try:
            response.start("500 Oh", [], exc_info_of(Culprit))
        except Culprit as error:
            reference = weakref.ref(error)
        assert reference() is None
    finally:
        gc.enable()


def test_a_rejected_header_leaves_the_response_unchanged(response, sink):
    response.start("200 OK", [("Content-Length", "1")])
    with pytest.raises(ValueError, match="not a token"):
        response.start("500 Oh", [("a b", "")], exc_info_of(KeyError))
    response.relay([b"x"])
    assert sink.events[0] == start(200, [(b"content-length", b"1")])


def test_write_comes_before_the_iterable(response, sink):
    write = response.start("200 OK", [])
    write(b"one")
    write(b"")
    response.relay([b"two"])
    assert sink.events == [start(), chunk(b"one"), chunk(b"two"), END]
    with pytest.raises(RuntimeError, match="response was complete"):
        write(b"three")


def test_a_body_is_truncated_at_content_length(response, sink):
    asked = []

    def chunks():
        for piece in (b"0123", b"456789", b"never asked for"):
            asked.append(piece)
            yield piece

    response.start("200 OK", [("Content-Length", "8")])
    response.relay(chunks())
    assert sink.events[1:] == [chunk(b"0123"), chunk(b"4567"), END]
    assert len(asked) == 2


def test_a_body_that_is_too_short_is_an_error_without_a_final_event(response, sink):
    response.start("200 OK", [("Content-Length", "8")])
    with pytest.raises(RuntimeError, match="sent 4 of the 8 bytes"):
        response.relay([b"0123"])
    assert sink.events[1:] == [chunk(b"0123")]


def test_head_sends_the_headers_only(sink):
    response = Response()
    response.attach(sink, True)
    response.start("200 OK", [("Content-Length", "4")])
    response.relay([b"", b"0123", b"never looked at"])
    assert sink.events == [start(200, [(b"content-length", b"4")]), END]


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status, response, sink):
    response.start(f"{status} x", [("Content-Length", "4"), ("ETag", "x")])
    response.relay([b"0123"])
    assert sink.events == [start(status, [(b"etag", b"x")]), END]


@pytest.mark.parametrize("piece", [bytearray(b"ab"), memoryview(b"ab")])
def test_buffers_are_copied(piece, response, sink):
    response.start("200 OK", [])
    response.add(piece)
    assert sink.events[1] == chunk(b"ab")
    assert type(sink.events[1]["body"]) is bytes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("text", "bytes, not str"),
        ([1], "bytes, not int"),
        (None, "returned NoneType"),
        (b"ab", "bytes, not int"),
        (["text"], "bytes, not str"),
    ],
)
def test_a_body_is_an_iterable_of_bytes(body, message, response):
    response.start("200 OK", [])
    with pytest.raises(TypeError, match=message):
        response.relay(body)
