"""What a client does when a server is away for a moment, gone, or none."""

import contextlib
import json
import socket
import sys
import threading
from concurrent import futures

import grpc
import pytest
import uvicorn
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from keras_dl.errors import UserError
from keras_dl.serving.client import Client, client

STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}


@pytest.fixture
def waits(monkeypatch):
    """The seconds that a client waited between attempts, which it does not here."""
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    return waits


@pytest.fixture
def answering(running):
    """answering(*answers): the URL of a server of these answers (status, headers, body), the last one for ever."""
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


def test_a_server_that_is_full_is_asked_again_when_it_says(answering, waits):
    with Client(answering(FULL, FULL, (200, {}, STATUS))) as asked:
        assert asked.status("m") == [(1, "AVAILABLE", "OK", "")]
    assert waits == [7.0, 7.0]


def test_it_is_asked_only_so_often(answering, waits):
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


def test_the_waits_grow(answering, waits):
    with Client(answering((503, {}, {"error": "busy"}))) as asked, pytest.raises(UserError, match="busy"):
        asked.status("m")
    assert waits == pytest.approx([0.25, 0.5, 1.0], rel=0.2)


@pytest.mark.parametrize("status", [400, 404, 408, 429, 500, 504])
def test_other_errors_are_final(answering, waits, status):
    url = answering((status, {"Retry-After": "1"}, {"error": "words"}), (200, {}, STATUS))
    with Client(url) as asked, pytest.raises(UserError, match="m: the server refused the request: words"):
        asked.status("m")
    assert waits == []


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_answers(free_port, waits, scheme):
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with Client(url) as asked:
        with pytest.raises(UserError, match=f"no server answers at {url}: start one with `keras-dl serve hp2`"):
            asked.predict("hp2", {"x": 1})
        assert len(waits) == 3
        assert not asked.is_available("hp2")
    assert len(waits) == 3


def test_a_server_that_restarts_is_found_again(running, free_port):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(STATUS).encode()})

    port = free_port()

    @contextlib.contextmanager
    def server():
        listener = socket.create_server(("127.0.0.1", port))
        one = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=one.run, kwargs={"sockets": [listener]})
        thread.start()
        yield
        one.should_exit = True
        thread.join(30)
        listener.close()

    with Client(f"http://127.0.0.1:{port}") as asked:
        with server():
            assert asked.status("m")
        threading.Timer(0.5, lambda: started.enter_context(server())).start()
        with contextlib.ExitStack() as started:
            assert asked.status("m")


class Away(model_service_pb2_grpc.ModelServiceServicer):
    """Away so often, and then there."""

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


def test_grpc_that_is_unavailable_is_asked_again(waits):
    with grpc_service(Away(2)) as url, Client(url) as asked:
        assert asked.status("m") == [(1, "AVAILABLE", "OK", "")]
    assert waits == pytest.approx([0.25, 0.5], rel=0.2)
    with grpc_service(Away(9)) as url, Client(url, retries=1) as asked:
        with pytest.raises(UserError, match="m: the server refused the request: the server is shutting down"):
            asked.status("m")


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"])
def test_other_codes_of_grpc_are_final(waits, code):
    with grpc_service(Away(1, grpc.StatusCode[code])) as url, Client(url) as asked, pytest.raises(UserError):
        asked.status("m")
    assert waits == []


def test_grpc_that_restarts_is_found_again(free_port):
    port = free_port()
    with Client(f"grpc://127.0.0.1:{port}") as asked:
        with grpc_service(Away(0), port):
            assert asked.status("m")
        with contextlib.ExitStack() as started:
            threading.Timer(0.5, lambda: started.enter_context(grpc_service(Away(0), port))).start()
            assert asked.status("m")


# ---------------------------------------------------------------------------- what is no model server


@pytest.mark.parametrize(
    "url",
    ["localhost 8501", "ftp://127.0.0.1:8501", "127.0.0.1:8501", "http://", "", "grpc://127.0.0.1", "grpc://a:b/c"],
)
def test_a_url_that_is_none(url):
    with pytest.raises(
        UserError, match=r"expected a server's URL such as (http://127.0.0.1:8501|grpc://127.0.0.1:8500)"
    ):
        Client(url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retries": -1}])
def test_settings_that_make_no_sense(options):
    with pytest.raises(UserError, match="expected a timeout above 0 and retries from 0"):
        Client(**options)


@pytest.mark.parametrize(
    "status, body, kind", [(200, b"<html>", "200, text/html"), (503, b"<html>", "503, text/html"), (200, b"[]", "200"),
                           (200, b"{}", "200"), (404, b"", "404")]
)  # fmt: skip
def test_another_kind_of_server(answering, waits, status, body, kind):
    with Client(answering((status, {"Content-Type": "text/html"}, body))) as asked:
        with pytest.raises(UserError, match=f"expected TensorFlow Serving's JSON from .* and received {kind}"):
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


def test_what_a_server_dies_of_is_sent_twice_at_most(waits):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def die():
            with contextlib.suppress(OSError):  # the listener's end
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


def test_the_packages_of_grpc_are_missed_in_words(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras_dl.serving.client.grpc", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(UserError, match=r"expected the packages of gRPC \(.*\): pip install 'keras-dl\[grpc\]'"):
        Client("grpc://127.0.0.1:8500")
