"""Bodies that are too large, compressed, slow, or broken off: the right status, and the server goes on."""

import gzip
import json
import socket

import pytest
import requests

from keras_dl.serving.server.app import create_app
from keras_dl.serving.server.limits import Limits

PATH = "/v1/models/hp2:predict"
BODY = json.dumps({"inputs": [2.0, 3.0]}).encode()


@pytest.fixture(scope="module")
def strict(inference, running):
    """The URL of a server that waits a fifth of a second for the next piece of a body and a second for all."""
    limits = Limits(body_bytes=1000, inflated_bytes=2000, body_seconds=1.0, pause_seconds=0.2)
    with running(create_app(inference, limits), limits) as url:
        yield url


def post(url, body, **headers):
    return requests.post(url + PATH, data=body, headers=headers, timeout=30)


def serves(url):
    return post(url, BODY).json() == {"outputs": [3.0, 3.5]}


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def head(length):
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def read_all(connection):
    """Everything until the server closes the connection."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(strict, chunked):
    body = b'{"instances": [' + b" " * 10_000 + b"1]}"
    response = post(strict, iter([body[:5000], body[5000:]]) if chunked else body)
    assert response.status_code == 413
    assert response.json() == {"error": f"expected a body of at most 1000 bytes and received {len(body)}"}
    assert post(strict, body[-10:]).status_code == 400


def test_gzip(strict):
    assert post(strict, gzip.compress(BODY), **{"Content-Encoding": "gzip"}).json() == {"outputs": [3.0, 3.5]}
    largest = BODY + b" " * (2000 - len(BODY))
    assert post(strict, gzip.compress(largest), **{"Content-Encoding": "gzip"}).status_code == 200


def test_a_body_that_inflates_beyond_the_limit_is_413(strict):
    for size in (2001, 600_000):  # the larger one is a few hundred bytes on the way
        response = post(strict, gzip.compress(BODY + b" " * (size - len(BODY))), **{"Content-Encoding": "x-gzip"})
        assert response.status_code == 413
        assert response.json() == {"error": "expected a body of at most 2000 bytes when inflated and received more"}


@pytest.mark.parametrize("body", [b"", BODY, gzip.compress(BODY)[:-4], b"\x1f\x8b" + b"x" * 40])
def test_what_is_no_gzip_is_no_body(strict, body):
    response = post(strict, body, **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()) == (400, {"error": "JSON Parse error: The document is empty"})


def test_nesting_over_the_limit_is_400(inference, running):
    with running(create_app(inference, Limits(nesting=1100))) as url:
        assert "Missing 'inputs'" in post(url, b'{"a": ' + b"[" * 1090 + b"]" * 1090 + b"}").json()["error"]
        response = post(url, b'{"a": ' + b"[" * 1200 + b"]" * 1200 + b"}")
    assert response.status_code == 400 and "Nested deeper than 1100 levels" in response.json()["error"]


@pytest.mark.parametrize("sent", [b"", b'{"inputs":'])
def test_a_sender_that_stops_is_408(strict, sent):
    with connect(strict) as connection:
        connection.sendall(head(100) + sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer.lower()
    assert answer.endswith(b'{"error": "the body did not arrive in time"}')
    assert serves(strict)


def test_a_sender_that_drips_is_408(strict):
    with connect(strict) as connection:
        connection.sendall(head(100))
        connection.settimeout(0.1)
        answer = b""
        for _ in range(90):  # a byte in a tenth of a second never pauses too long
            try:
                connection.sendall(b" ")
                answer += connection.recv(65536)
            except TimeoutError:
                continue
            break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert serves(strict)


def test_a_sender_that_goes_away(strict):
    for _ in range(5):
        with connect(strict) as connection:
            connection.sendall(head(100) + b"{")
    assert serves(strict)
