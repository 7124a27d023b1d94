"""Idle, slow, malformed and too many connections: the server keeps working."""

import asyncio
import contextlib
import re
import resource
import socket
import threading
import time
from concurrent.futures import Future

import pytest
import requests

from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest import connections
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.connections import raise_file_limit
from keras_dl.serving.server.rest.limits import Limits

PATH = "/v1/models/hp2:predict"
REQUEST = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n".encode() + b'{"inputs": 2}'


@pytest.fixture(scope="module")
def strict(inference, running):
    """The URL of a server that closes connections with slow or large headers, and idle ones."""
    limits = Limits(head_bytes=5000, head_seconds=0.2, idle_seconds=0.5)
    with running(create_app(inference), limits) as url:
        yield url


@pytest.fixture(scope="module")
def patient(inference, running):
    """The URL of a server that limits the size of headers, but not the time for them."""
    with running(create_app(inference), Limits(head_bytes=5000, head_seconds=600.0, idle_seconds=0.2)) as url:
        yield url


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def read_all(connection):
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def read_until(connection, end):
    answer = b""
    while not answer.endswith(end):
        answer += (piece := connection.recv(65536))
        assert piece, answer
    return answer


def serves(url):
    return requests.get(f"{url}/healthz", timeout=120).json() == {"status": "ok"}


def test_a_connection_without_a_request_is_closed(strict):
    with connect(strict) as connection:
        assert read_all(connection) == b""
    with connect(strict) as connection:
        connection.sendall(REQUEST)
        assert read_all(connection).endswith(b'{"outputs":3.0}')  # closed without another request
    with connect(strict) as connection:
        connection.sendall(b"\r\n\r\n")
        assert read_all(connection) == b""


@pytest.mark.parametrize("before", [b"", REQUEST])
def test_slow_headers_return_408(strict, before):
    with connect(strict) as connection:
        connection.sendall(before + b"POST /v1/models/hp2:predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        answer = read_all(connection)
    assert b"HTTP/1.1 408 Request Timeout\r\n" in answer
    assert answer.endswith(b'{"error": "the headers did not arrive in time"}')
    assert serves(strict)


def test_large_headers_return_431(strict):
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + b"X: 1234567890\r\n" * 500)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 ") and b"at most 5000 bytes" in answer
    assert serves(strict)


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/models/hp2:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX\x00Y: 1\r\n\r\n",
    ],
)
def test_invalid_http_returns_400_in_json(strict, text):
    with connect(strict) as connection:
        connection.sendall(text)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert re.search(rb'content-type: application/json\r\n(.*\r\n)*\r\n\{"error": "[^"]+"\}$', answer)
    assert serves(strict)


@pytest.mark.parametrize(
    "message",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        REQUEST.replace(b"Host: x", b"Host: x\r\nA: " + b"b" * 100_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 40_000 + b"\r\n",
        REQUEST.replace(b"Content-Length: 13\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nd\r\n")
        + b"\r\n0\r\n"
        + b"A: b\r\n" * 50_000
        + b"\r\n",
    ],
    ids=["target", "header", "many headers", "trailers"],
)
@pytest.mark.parametrize("piece", [2**20, 1000])
def test_large_heads_and_trailers_return_431_however_they_arrive(url, message, piece):
    with connect(url) as connection:
        with contextlib.suppress(ConnectionError):  # closed while the rest is being sent
            for start in range(0, len(message), piece):
                connection.sendall(message[start : start + piece])
        with contextlib.suppress(ConnectionError):
            assert read_all(connection).startswith(b"HTTP/1.1 431 ")
    assert serves(url)


LARGE = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n".encode() + b'{"inputs": 2}'.ljust(20000)


def test_a_body_does_not_count_as_the_head_of_the_next_request(patient):
    with connect(patient) as connection:
        connection.sendall(LARGE + REQUEST[:40])
        time.sleep(0.05)
        connection.sendall(REQUEST[40:])
        assert read_all(connection).count(b'{"outputs":3.0}') == 2
    with connect(patient) as connection:
        connection.sendall(LARGE[:-10000])
        time.sleep(0.05)
        connection.sendall(LARGE[-10000:] + REQUEST[:40])
        time.sleep(0.05)
        connection.sendall(REQUEST[40:])
        assert read_all(connection).count(b'{"outputs":3.0}') == 2


@pytest.mark.parametrize(
    "second",
    [REQUEST[:40], b"GET / HTTP/1.1\r\n" + b"X: 1234567890\r\n" * 500, b"\x16\x03"],
    ids=["slow", "large", "malformed"],
)
def test_the_error_of_a_second_request_does_not_replace_the_first_answer(running, monkeypatch, second):
    refused, refuse = asyncio.Event(), connections._GuardedProtocol._refuse

    def refuse_and_tell(self, *arguments):
        refuse(self, *arguments)
        refused.set()

    async def app(scope, receive, send):
        await refused.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"first"})

    monkeypatch.setattr(connections._GuardedProtocol, "_refuse", refuse_and_tell)
    with running(app, Limits(head_bytes=5000, head_seconds=0.1)) as url, connect(url) as connection:
        connection.sendall(REQUEST)
        connection.sendall(second)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"first") and b"connection: close" in answer


def test_pipelined_requests(patient):
    with connect(patient) as connection:
        connection.sendall(REQUEST * 5)
        assert read_all(connection).count(b'{"outputs":3.0}') == 5


def test_the_longest_idle_connection_is_closed_first(inference, running):
    limits = Limits(connections=20)
    with running(create_app(inference), limits) as url, contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(url))
        first.sendall(REQUEST)
        read_until(first, b'{"outputs":3.0}')
        others = [stack.enter_context(connect(url)) for _ in range(40)]
        assert read_all(first) == b""
        others[-1].sendall(REQUEST)
        read_until(others[-1], b'{"outputs":3.0}')
        assert serves(url)


def test_connections_accepted_at_once_are_all_counted(running):
    busy, connected = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        busy.set()
        connected.wait(120)  # blocks the event loop, which then accepts all connections at once
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    with running(app, Limits(connections=20)) as url, contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(url))
        first.sendall(REQUEST)
        assert busy.wait(120)
        others = [stack.enter_context(connect(url)) for _ in range(40)]
        connected.set()
        assert first.recv(65536)
        for connection in others[:19]:  # 41 minus 20, with a margin for the order of acceptance
            assert read_all(connection) == b""


def test_a_disconnected_client_cancels_its_request(store, running, monkeypatch, eventually):
    inference, answer, submitted = Inference(store, Metrics()), Future(), threading.Event()
    monkeypatch.setattr(inference, "submit", lambda *arguments, **options: submitted.set() or answer)
    with running(create_app(inference)) as url:
        with connect(url) as connection:
            connection.sendall(REQUEST)
            assert submitted.wait(120)
            assert not answer.cancelled()
        assert eventually(answer.cancelled)
        assert eventually(lambda: b"CANCELLED" in inference.metrics.render())
    inference.close(5)


def test_a_connection_whose_answer_is_not_read_is_closed(running):
    finished = threading.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": bytes(2**24), "more_body": True})
        finished.set()

    with running(app, Limits(unread_seconds=0.2)) as url, connect(url) as connection:
        connection.sendall(REQUEST)
        assert finished.wait(120)
        assert len(read_all(connection)) < 3 * 2**24


def test_the_file_limit_is_raised_to_the_maximum():
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == (min(hard, 2**16) if hard > 0 else 2**16)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
