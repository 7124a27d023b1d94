"""Large, compressed, slow and incomplete bodies: the right status, and the server keeps working."""

import asyncio
import gzip
import json
import socket
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from starlette.exceptions import HTTPException

from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.codec import read_document
from keras_dl.serving.server.rest.limits import Limits, check_parsed_size

PATH = "/v1/models/hp2:predict"
BODY = json.dumps({"inputs": [2.0, 3.0]}).encode()


@pytest.fixture(scope="module")
def strict(inference, running):
    """The URL of a server that limits the size of bodies."""
    limits = Limits(body_bytes=1000, inflated_bytes=2000, body_seconds=600.0, pause_seconds=600.0)
    with running(create_app(inference, limits), limits) as url:
        yield url


@pytest.fixture(scope="module")
def impatient(inference, running):
    """The URL of a server that waits 0.2 s for the next part of a body and 1 s for all of it."""
    with running(create_app(inference, Limits(body_seconds=1.0, pause_seconds=0.2))) as url:
        yield url


def post(url, body, **headers):
    return requests.post(url + PATH, data=body, headers=headers, timeout=120)


def serves(url):
    return requests.get(f"{url}/healthz", timeout=120).json() == {"status": "ok"}


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def head(length):
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def read_all(connection):
    """Everything until the server closes the connection."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_returns_413(strict, chunked):
    body = b'{"instances": [' + b" " * 10_000 + b"1]}"
    response = post(strict, iter([body[:5000], body[5000:]]) if chunked else body)
    assert response.status_code == 413
    assert response.json() == {"error": f"expected a body of at most 1000 bytes. Received: {len(body)}"}
    assert post(strict, body[-10:]).status_code == 400


def test_gzip(strict):
    assert post(strict, gzip.compress(BODY), **{"Content-Encoding": "gzip"}).json() == {"outputs": [3.0, 3.5]}
    largest = BODY + b" " * (2000 - len(BODY))
    assert post(strict, gzip.compress(largest), **{"Content-Encoding": "gzip"}).status_code == 200


def test_a_body_that_decompresses_beyond_the_limit_returns_413(strict):
    for size in (2001, 600_000):  # the larger one has a few hundred bytes when compressed
        response = post(strict, gzip.compress(BODY + b" " * (size - len(BODY))), **{"Content-Encoding": "x-gzip"})
        assert response.status_code == 413
        assert response.json() == {"error": "expected a body of at most 2000 bytes after decompression. Received: more"}


@pytest.mark.parametrize("body", [b"", BODY, gzip.compress(BODY, mtime=0)[:-4], b"\x1f\x8b" + b"x" * 40])
def test_invalid_gzip(strict, body):
    response = post(strict, body, **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()) == (
        400,
        {"error": "expected a body in gzip format. Received: other or incomplete data"},
    )


@pytest.mark.parametrize("sent", [b"", b'{"inputs":'])
def test_an_incomplete_body_returns_408(impatient, sent):
    with connect(impatient) as connection:
        connection.sendall(head(100) + sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer.lower()
    assert answer.endswith(b'{"error": "the body did not arrive in time"}')
    assert serves(impatient)


def test_a_slow_body_returns_408(impatient):
    with connect(impatient) as connection:
        connection.sendall(head(100))
        connection.settimeout(0.1)
        answer = b""
        for _ in range(90):  # a byte every 0.1 s is within the limit of pauses
            try:
                connection.sendall(b" ")
                answer += connection.recv(65536)
            except TimeoutError:
                continue
            break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert serves(impatient)


def test_bodies_beyond_the_total_limit_return_503(inference, running):
    limits = Limits(total_bytes=2000)
    with running(create_app(inference, limits), limits) as url:
        with connect(url) as first:
            first.sendall(head(1500) + BODY + b" " * (1499 - len(BODY)))
            for body, headers in ((b" " * 600, {}), (gzip.compress(b" " * 10_000), {"Content-Encoding": "gzip"})):
                while (response := post(url, body, **headers)).status_code == 400:  # the first one has not arrived yet
                    pass
                assert response.status_code == 503 and response.headers["Retry-After"] == "1"
                assert "2000 bytes are being answered" in response.json()["error"]
            first.sendall(b" ")
            answer = b""
            while not answer.endswith(b'{"outputs":[3.0,3.5]}'):
                answer += (piece := first.recv(65536))
                assert piece
        for _ in range(3):  # rejected requests release their bytes as well
            assert post(url, BODY + b" " * (1500 - len(BODY))).status_code == 200


@pytest.mark.parametrize("item", [b"[]", b"{}", b'""', b"1", b'{"a":1}', b"[[1.5]]"])
def test_the_memory_of_parsed_values_is_estimated(item):
    count = 100_000
    body = b'{"instances": [' + (item + b",") * count + item + b"]}"
    tracemalloc.start()
    members = json.loads(body)  # orjson's memory is not traced
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(members["instances"]) == count + 1
    check_parsed_size(body, Limits(parsed_bytes=3 * size + 10_000_000), lambda size: True)
    with pytest.raises(HTTPException) as caught:
        check_parsed_size(body, Limits(parsed_bytes=size), lambda size: True)
    assert caught.value.status_code == 413


def test_a_small_body_of_many_values_returns_413(inference, running):
    body = gzip.compress(b'{"instances": [' + b"[]," * 100_000 + b"0]}")
    assert len(body) < 1000
    with running(create_app(inference, Limits(parsed_bytes=2**20))) as url:
        response = post(url, body, **{"Content-Encoding": "gzip"})
        assert response.status_code == 413
        assert response.json()["error"].startswith("expected a body whose values need at most 1048576 bytes in memory")
        assert post(url, BODY).status_code == 200
    with running(create_app(inference, Limits(total_bytes=2**20 + len(body)))) as url:
        assert post(url, body, **{"Content-Encoding": "gzip"}).status_code == 503
        assert post(url, BODY).status_code == 200


def test_large_bodies_are_parsed_by_two_threads(inference, running, monkeypatch):
    threads, at_once, most = threading.Lock(), [], []

    def read(*arguments):
        with threads:
            at_once.append(1)
            most.append(len(at_once))
        time.sleep(0.05)
        with threads:
            at_once.pop()
        return read_document(*arguments)

    monkeypatch.setattr("keras_dl.serving.server.rest.app.read_document", read)
    body = gzip.compress(BODY + b" " * 2**19)
    with running(create_app(inference)) as url, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(url, body, **{"Content-Encoding": "gzip"}).status_code, range(8)))
    assert answers == [200] * 8 and max(most) <= 2


@pytest.mark.parametrize("size", [2**18, 2**18 + 1, 2**20])
def test_large_gzip_bodies_are_decompressed_completely(inference, running, size):
    limits = Limits(inflated_bytes=2**20)
    with running(create_app(inference, limits), limits) as url:
        body = gzip.compress(BODY + b" " * (size - len(BODY)))
        assert post(url, body, **{"Content-Encoding": "gzip"}).json() == {"outputs": [3.0, 3.5]}
        assert post(url, body[:-1], **{"Content-Encoding": "gzip"}).status_code == 400


def test_bodies_have_less_time_during_the_shutdown(inference, running, monkeypatch):
    monkeypatch.setattr("keras_dl.serving.server.rest.limits._DRAIN_SECONDS", 0.1)
    app = create_app(inference)
    with running(app) as url, connect(url) as connection:
        app.state.draining.set()
        connection.sendall(head(100) + b"{")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_request_cancelled_by_the_shutdown_gets_a_json_error(inference):
    app = create_app(inference)
    app.state.draining.set()
    sent = []

    async def ask():
        received = asyncio.Event()

        async def receive():
            received.set()
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}
        task = asyncio.create_task(app(scope | {"headers": []}, receive, send))
        await received.wait()
        task.cancel()
        await task

    asyncio.run(ask())
    assert sent[0]["status"] == 503 and json.loads(sent[1]["body"]) == {"error": "the server is shutting down"}


def test_clients_that_disconnect(impatient):
    for _ in range(5):
        with connect(impatient) as connection:
            connection.sendall(head(100) + b"{")
    assert serves(impatient)
