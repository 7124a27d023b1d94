"""A server on this machine answers only requests to its own names from its own pages."""

import http.client

import pytest

from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.local_only import allowed_hosts


@pytest.mark.parametrize(
    "host, address, hosts",
    [
        ("127.0.0.1", "127.0.0.1", ("localhost", "127.0.0.1", "[::1]")),
        ("::1", "::1", ("localhost", "127.0.0.1", "[::1]")),
        ("Laptop.local", "127.0.1.1", ("localhost", "127.0.0.1", "[::1]", "laptop.local")),
        ("0.0.0.0", "0.0.0.0", None),
        ("::", "::", None),
        ("10.0.0.7", "10.0.0.7", None),
        ("fe80::1", "fe80::1%eth0", None),
    ],
)
def test_only_loopback_addresses_are_restricted(host, address, hosts):
    assert allowed_hosts(host, address) == hosts


@pytest.fixture(scope="module")
def local(inference, running):
    with running(create_app(inference, hosts=allowed_hosts("127.0.0.2", "127.0.0.2"))) as url:
        yield int(url.rpartition(":")[2])


def ask(port, headers, method="POST", path="/v1/models/hp2:predict"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.putrequest(method, path, skip_host=True)
    body = b'{"inputs": 2}' if method == "POST" else b""
    for name, value in [*headers, ("Content-Length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "localhost")],
        [("Host", "LOCALHOST:1")],
        [("Host", "127.0.0.1:8501")],
        [("Host", "127.0.0.2:8501"), ("Origin", "http://127.0.0.1:8501")],
        [("Host", "[::1]:8501"), ("Origin", "https://localhost")],
        [("Host", "[::1]")],
    ],
)
def test_own_names(local, headers):
    assert ask(local, headers) == (200, b'{"outputs":3.0}')


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example:8501")],
        [("Host", "localhost.evil.example")],
        [("Host", "evil.example#localhost")],
        [("Host", "localhost@evil.example")],
        [("Host", "localhost:80:80")],
        [("Host", "[")],
        [("Host", "")],
        [("Host", "localhost"), ("Host", "evil.example")],
        [("Host", "localhost"), ("Origin", "http://evil.example")],
        [("Host", "localhost"), ("Origin", "http://localhost.evil.example:8501")],
        [("Host", "localhost"), ("Origin", "null")],
        [("Host", "\xff")],
    ],
)
def test_foreign_names(local, headers):
    for method, path in (("POST", "/v1/models/hp2:predict"), ("GET", "/page/models.json"), ("OPTIONS", "/v1/models")):
        status, answer = ask(local, headers, method, path)
        assert status == 403 and b"because the server is for this machine only. Received: " in answer
