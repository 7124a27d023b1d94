"""The client with servers that are unavailable, restarting, slow, or not model servers."""

import contextlib
import json
import socket
import sys
import threading
import time
import types
from concurrent import futures

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from keras_dl.errors import UserError
from keras_dl.serving.client import Client, client

STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}


@pytest.fixture
def waits(monkeypatch):
    """The delays between attempts, recorded instead of slept."""
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    return waits


@pytest.fixture
def answering(running):
    """answering(*answers): the URL of a server that sends these (status, headers, body), then repeats the last one."""
    with contextlib.ExitStack() as stack:

        def serve(*answers):
            left = list(answers)

            async def app(scope, receive, send):
                status, headers, body = left.pop(0) if len(left) > 1 else left[0]
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                listed = [(key.encode(), value.encode()) for key, value in headers.items()]
                await send({"type": "http.response.start", "status": status, "headers": listed})
                await send({"type": "http.response.body", "body": content})

            return stack.enter_context(running(app))

        yield serve


FULL = (503, {"Retry-After": "7"}, {"error": "the queue is full"})


def test_a_full_server_is_retried_after_the_time_it_specifies(answering, waits):
    with Client(answering(FULL, FULL, (200, {}, STATUS))) as asked:
        assert asked.status("m") == [(1, "AVAILABLE", "OK", "")]
    assert waits == [7.0, 7.0]


def test_the_number_of_retries_is_limited(answering, waits):
    url = answering(FULL)
    with (
        Client(url, retries=2) as asked,
        pytest.raises(UserError, match="m: the server refused the request: the queue"),
    ):
        asked.status("m")
    assert len(waits) == 2
    with Client(url, timeout=0.5, retries=1) as asked, pytest.raises(UserError):
        asked.status("m")
    assert waits[2:] == [0.5]


def test_the_delays_grow(answering, waits):
    with Client(answering((503, {}, {"error": "busy"}))) as asked, pytest.raises(UserError, match="busy"):
        asked.status("m")
    assert waits == pytest.approx([0.25, 0.5, 1.0], rel=0.2)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_other_errors_are_not_retried(answering, waits, status):
    url = answering((status, {"Retry-After": "1"}, {"error": "reason"}), (200, {}, STATUS))
    with Client(url) as asked, pytest.raises(UserError, match="m: the server refused the request: reason"):
        asked.status("m")
    assert waits == []


@pytest.mark.parametrize("answer", [(408, {}, {"error": "slow body"}), (504, {}, {"error": "slow"}), (504, {}, b"<a>")])
def test_the_servers_timeout_is_reported_as_a_timeout(answering, waits, answer):
    with Client(answering(answer), timeout=9.0) as asked, pytest.raises(UserError) as raised:
        asked.status("m")
    assert str(raised.value).endswith("timed out: the client waits 9 seconds; the server may allow less")
    assert waits == []


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_the_clients_timeout_is_reported_as_a_timeout(waits, scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts connections and never answers
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, timeout=0.2) as asked, pytest.raises(UserError) as raised:
            asked.status("m")
    assert (
        str(raised.value) == f"the request to {url} timed out: the client waits 0.2 seconds; the server may allow less"
    )
    assert waits == []


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server_listens(free_port, waits, scheme):
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with Client(url) as asked:
        with pytest.raises(UserError, match=f"no server answers at {url}: start one with `keras-dl serve hp2`"):
            asked.predict("hp2", {"x": 1})
        assert len(waits) == 3
        assert not asked.is_available("hp2")
    assert len(waits) == 3


def test_a_client_finds_a_restarted_server(monkeypatch, free_port, running):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(STATUS).encode()})

    port = free_port()
    with Client(f"http://127.0.0.1:{port}") as asked:
        with running(app, port=port):
            assert asked.status("m")
        with contextlib.ExitStack() as restarted:
            waits = restart_at_the_second_wait(monkeypatch, restarted, running(app, port=port))
            assert asked.status("m")
    assert len(waits) == 2


def restart_at_the_second_wait(monkeypatch, stack, server, ready=lambda: None):
    """Replaces the client's sleep: enters the context `server` at the second one, then waits for `ready`."""
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            stack.enter_context(server)
            ready()

    monkeypatch.setattr(client, "time", types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    return waits


class Unavailable(model_service_pb2_grpc.ModelServiceServicer):
    """Aborts the first `times` calls with a code, and answers the later ones."""

    def __init__(self, times, code=grpc.StatusCode.UNAVAILABLE):
        self.left, self.code = times, code

    def GetModelStatus(self, request, context):  # noqa: N802
        self.left -= 1
        if self.left >= 0:
            context.abort(self.code, "the server is shutting down")
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[{"version": 1, "state": "AVAILABLE"}])


@contextlib.contextmanager
def grpc_service(servicer, port=0):
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def test_an_unavailable_grpc_server_is_retried(waits):
    with grpc_service(Unavailable(2)) as url, Client(url) as asked:
        assert asked.status("m") == [(1, "AVAILABLE", "OK", "")]
    assert waits == pytest.approx([0.25, 0.5], rel=0.2)
    with grpc_service(Unavailable(9)) as url, Client(url, retries=1) as asked:
        with pytest.raises(UserError, match="m: the server refused the request: the server is shutting down"):
            asked.status("m")


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"])
def test_other_grpc_errors_are_not_retried(waits, code):
    with grpc_service(Unavailable(1, grpc.StatusCode[code])) as url, Client(url) as asked, pytest.raises(UserError):
        asked.status("m")
    assert waits == []


def test_the_grpc_servers_timeout_is_reported_as_a_timeout(waits):
    with grpc_service(Unavailable(1, grpc.StatusCode.DEADLINE_EXCEEDED)) as url, Client(url, timeout=9.0) as asked:
        with pytest.raises(UserError) as raised:
            asked.status("m")
    assert str(raised.value) == f"the request to {url} timed out: the client waits 9 seconds; the server may allow less"
    assert waits == []


def test_a_client_finds_a_restarted_grpc_server(monkeypatch, free_port):
    port = free_port()
    with Client(f"grpc://127.0.0.1:{port}") as asked:
        with grpc_service(Unavailable(0), port):
            assert asked.status("m")

        def connected():  # the channel tries to connect at most every second
            grpc.channel_ready_future(asked._transport._channel).result(30)

        with contextlib.ExitStack() as restarted:
            waits = restart_at_the_second_wait(monkeypatch, restarted, grpc_service(Unavailable(0), port), connected)
            assert asked.status("m")
    assert len(waits) == 2


# ---------------------------------------------------------------------------- not a model server


@pytest.mark.parametrize(
    "url",
    ["localhost 8501", "ftp://127.0.0.1:8501", "127.0.0.1:8501", "http://", "", "grpc://127.0.0.1", "grpc://a:b/c"],
)
def test_invalid_urls(url):
    with pytest.raises(
        UserError, match=r"expected a server's URL such as (http://127.0.0.1:8501|grpc://127.0.0.1:8500)\. Rec"
    ):
        Client(url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retries": -1}])
def test_invalid_settings(options):
    with pytest.raises(UserError, match="expected timeout > 0 and retries >= 0"):
        Client(**options)


@pytest.mark.parametrize(
    "status, body, kind", [(200, b"<html>", "200, text/html"), (503, b"<html>", "503, text/html"), (200, b"[]", "200"),
                           (200, b"{}", "200"), (404, b"", "404")]
)  # fmt: skip
def test_servers_of_another_kind(answering, waits, status, body, kind):
    with Client(answering((status, {"Content-Type": "text/html"}, body))) as asked:
        with pytest.raises(UserError, match=f"expected TensorFlow Serving's JSON from .*\\. Received: {kind}"):
            asked.predict("hp2", {"x": 1})
        assert not asked.is_available("hp2")


def test_a_server_that_closes_without_an_answer(waits):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close():
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=close)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, retries=1) as asked, pytest.raises(UserError, match="no server answers at"):
            asked.status("m")
        thread.join(30)
    assert len(waits) == 1


def test_a_request_that_crashes_the_server_is_sent_at_most_twice(waits):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def die():
            with contextlib.suppress(OSError):  # the listener was shut down
                while True:
                    connection, _ = listener.accept()
                    asked.append(connection.recv(65536))
                    connection.close()

        thread = threading.Thread(target=die)
        thread.start()
        with (
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(UserError, match="no serv"),
        ):
            client.status("m")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)
    assert len(asked) == 2 and len(waits) == 1


def test_missing_grpc_packages_are_reported(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras_dl.serving.client.grpc", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(UserError, match=r"gRPC requires the grpc extra \(.*\): pip install 'keras-dl\[grpc\]'"):
        Client("grpc://127.0.0.1:8500")
