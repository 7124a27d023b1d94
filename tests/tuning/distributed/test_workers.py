"""Addresses at which a chief can and cannot listen."""

import socket

import pytest

from keras_dl.errors import UserError
from keras_dl.tuning.distributed.workers import check_free, parse_address

from ...conftest import free_port


@pytest.mark.parametrize("text", ["0.0.0.0:9000", "localhost:9000", "[::1]:9000", "a-machine.example.org:9000"])
def test_host_and_port_are_parsed(text):
    assert parse_address(text) == (text.removesuffix(":9000"), 9000)


@pytest.mark.parametrize(
    "text", ["", "9000", "host", "host:", ":9000", "host:0", "host:65536", "::1:9000", "a b:9000", "http://a:1"]
)
def test_an_invalid_address_raises_an_error(text):
    with pytest.raises(UserError, match="expected HOST:PORT, such as 192.168.0.2:9000. Received: "):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_check_leaves_the_port_free(host):
    port = free_port()
    check_free(host, port)
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_taken_port_raises_an_error(host):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"^cannot listen on {host}:{port}: Address already in use$"):
            check_free(host, port)


@pytest.mark.parametrize("host", ["300.1.1.1", "192.0.2.1", "nowhere.invalid"])
def test_a_host_that_is_not_this_machine_raises_an_error(host):
    with pytest.raises(UserError, match=f"^cannot listen on {host}:9000: [A-Z]"):
        check_free(host, 9000)
