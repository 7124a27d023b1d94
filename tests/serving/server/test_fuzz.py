"""Random requests: each gets a documented answer, and the server keeps working."""

import gzip
import http.client
import json
import socket

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.limits import Limits

STATUSES = {200, 400, 404, 405, 408, 413, 431, 501, 503, 504}
FORBIDDEN = ("Traceback", 'File "', "site-packages", ".py", "/tmp", "/home", "/work", "Error:")

# Valid requests of each model and kind, which are then changed.
SEEDS = [
    ("hp2:predict", {"instances": [1.0, 2.5]}),
    ("hp2:predict", {"inputs": {"x": [[1, 2], [3, 4]]}}),
    ("hp2:predict", {"signature_name": "product", "instances": [{"x": [1, 2, 3]}]}),
    ("hp2:predict", {"signature_name": "half", "inputs": [1]}),
    ("text:predict", {"instances": ["a", {"b64": "AP8="}]}),
    ("text:predict", {"signature_name": "same", "inputs": "a"}),
    ("sequences:predict", {"instances": [{"features": [[1, 2], [3, 4]], "length": 2}]}),
    ("sequences:predict", {"inputs": {"features": [[[1, 2]]], "length": [1]}}),
    *(("echo:predict", {"signature_name": name, "inputs": [1, 0]}) for name in ("int8", "uint64", "float64", "uint16")),
    ("echo:predict", {"signature_name": "bool", "instances": [True]}),
    ("scores:classify", {"signature_name": "classify_sign", "examples": [{"x": 1.5}], "context": {"x": [0.5]}}),
    ("scores:regress", {"examples": [{"x": [1.0]}, {}]}),
    ("half_plus_two/labels/stable:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}]}),
    ("half_plus_two/versions/123:predict", {"instances": [[1.0]]}),
]
PATHS = [
    "/v1/models",
    "/v1/models/hp2",
    "/v1/models/hp2/versions/123/metadata",
    "/",
    "/healthz",
    "/readyz",
    "/openapi.json",
]
PATHS += ["/monitoring/prometheus/metrics", "/page/models.json", *(f"/v1/models/{target}" for target, _ in SEEDS)]
PIECES = ["/", "..", "%2e%2e", "%2F", "%00", "%ff", "%", ":", "::", "?a=b", "#", "predict", ":regress", "/versions/"]
PIECES += ["9" * 20, "/labels/", "stable", "/metadata", "//", "\\", "é", " ", "\t", ";", "*", "{}", "V1", "hp2", "-1"]
EDGE = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.sampled_from([0, -1, 1.5, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, float("nan"), float("-inf")]),
    st.sampled_from(
        [[], {}, [[]], [[1], [2, 3]], {"b64": "AA=="}, {"b64": 1}, {"b64": "?"}, {"x": 1}, "serving_default"]
    ),
    st.integers(1, 2000).map(lambda depth: json.loads("[" * min(depth, 300) + "]" * min(depth, 300))),
)


@st.composite
def changed(draw, value):
    """The value with one part of it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)) != 5:
        key = draw(st.sampled_from(sorted(value)))
        change = draw(st.integers(0, 9))
        if change == 0:
            return {name: value[name] for name in value if name != key}
        if change == 1:
            return {
                **value,
                draw(st.sampled_from(["x", "instances", "inputs", "signature_name", "é", ""])): draw(EDGE),
            }
        return {**value, key: draw(changed(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)) != 5:
        index = draw(st.integers(0, len(value) - 1))
        if draw(st.integers(0, 4)) == 0:
            return value[:index] + [draw(EDGE)] + value[index:]
        return value[:index] + [draw(changed(value[index]))] + value[index + 1 :]
    return draw(EDGE)


@st.composite
def spliced(draw, text, pieces):
    """The text with some pieces inserted or removed."""
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(pieces) + text[start + draw(st.integers(0, 3)) :]
    return text


@st.composite
def bodies(draw, seed):
    value = seed
    for _ in range(draw(st.integers(0, 3))):
        value = draw(changed(value))
    body = json.dumps(value).encode()
    kind = draw(st.integers(0, 19))
    if kind == 10:
        body = draw(spliced(body, st.binary(max_size=4)))
    elif kind == 1:
        body = draw(
            spliced(body, st.sampled_from([b"[" * 3000, b"]", b"NaN", b"{", b'"', b"\\u12", b"1e999", b"\xef\xbb\xbf"]))
        )
    elif kind == 12:
        body = draw(st.sampled_from([b"", b"null", b"0", b"[]", b"\0", b"[" * 20_000, b" " * 30_000, b'{"a":' * 5000]))
    elif kind == 13:
        body = draw(st.binary(max_size=50))
    return body


@st.composite
def messages(draw):
    """An HTTP method and a complete raw request."""
    target, seed = draw(st.sampled_from(SEEDS))
    path = f"/v1/models/{target}" if draw(st.integers(0, 9)) != 5 else draw(st.sampled_from(PATHS))
    if draw(st.integers(0, 9)) == 5:
        path = draw(spliced(path, st.sampled_from(PIECES)))
    method = draw(
        st.sampled_from(
            ["POST"] * 40 + ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"]
        )
    )
    body = draw(bodies(seed))
    headers = [("Host", "x")]
    encoding = draw(st.integers(0, 19))
    if encoding in (10, 11):
        body = gzip.compress(body) if encoding == 10 else body
        headers.append(("Content-Encoding", "gzip"))
    length = len(body) + (draw(st.sampled_from([1, -1, 10**12])) if draw(st.integers(0, 99)) == 50 else 0)
    framing = draw(st.integers(0, 29))
    if framing == 15:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        headers.append(("Transfer-Encoding", "chunked"))
    elif framing == 16:
        headers.append(("Transfer-Encoding", "chunked"))  # and it is not
    else:
        headers.append(("Content-Length", str(max(length, 0))))
    odd = [
        ("Expect", "100-continue"),
        ("Upgrade", "websocket"),
        ("Connection", "upgrade"),
        ("Content-Type", "text/xml"),
    ]
    odd += [("Origin", "https://x"), ("X", "\x00"), ("X", "y" * 70_000), ("A b", "c"), ("Accept-Encoding", "gzip")]
    if draw(st.integers(0, 11)) == 6:
        headers.append(draw(st.sampled_from(odd)))
    head = "".join([f"{method} {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in headers), "\r\n"])
    return method, head.encode("utf-8") + body


@pytest.fixture(scope="module")
def impatient(inference, running):
    """The URL of a server with short limits for slow clients."""
    limits = Limits(body_bytes=20_000, inflated_bytes=25_000, pause_seconds=0.2, head_seconds=0.2)
    with running(create_app(inference, limits), limits) as url:
        yield url


def ask(url, method, message):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        try:
            connection.sendall(message)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            return response.status, response.headers, response.read()
        except ConnectionResetError:  # rejected while it was being sent
            return 400, {}, b'{"error": ""}'


def check(url, method, message):
    status, headers, content = ask(url, method, message)
    assert status in STATUSES, (status, content)
    if method == "HEAD":
        assert content == b""
        return
    text = content.decode()
    if status != 200:
        error = json.loads(text)
        assert list(error) == ["error"] and isinstance(error["error"], str)
        sent = message.decode("latin-1")
        assert not [word for word in FORBIDDEN if word in error["error"].replace(". Error: ", "") and word not in sent]
    elif headers.get("Content-Type", "").startswith("application/json") and content:
        json.loads(text)


def fuzz(url, count):
    @given(messages())
    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def run(message):
        check(url, *message)

    run()
    answer = requests.post(f"{url}/v1/models/hp2:predict", json={"inputs": 2}, timeout=120)
    assert answer.json() == {"outputs": 3.0}
    assert requests.get(f"{url}/readyz", timeout=120).status_code == 200


def test_400_random_requests(impatient):
    fuzz(impatient, 400)


@pytest.mark.slow
def test_20000_random_requests(impatient):
    fuzz(impatient, 20_000)
