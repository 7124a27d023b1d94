"""Small real SavedModels, and the real server on a free port."""

import contextlib
import os
import socket
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow as tf
import uvicorn

from keras_dl.serving.server.app import create_app
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.store import ModelStore


def _half_plus(offset):
    """y = x / 2 + offset, of any shape; and what can go wrong in a graph."""
    module = tf.Module()
    module.half = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def default(x):
        return {"y": module.half * x + offset}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def product(x):
        return {"y": tf.matmul(x, tf.ones([3, 2]))}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="steps")])
    def spin(steps):
        _, last = tf.while_loop(lambda i, _: i < steps, lambda i, a: (i + 1, tf.sin(a)), [0, 1.0])
        return {"last": last}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(path):
        return {"content": tf.io.read_file(path)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_type(x):
        return {"y": tf.cast(x, tf.float16)}

    module.functions = {"serving_default": default, "product": product, "spin": spin, "read": read, "half": half_type}
    return module


def _text():
    """One string input; str, bytes, count and a scalar out."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def default(text):
        return {"upper": tf.strings.upper(text), "raw_bytes": text, "length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def joined(text):
        return {"joined": tf.strings.reduce_join(text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def same(text):
        return {"same_bytes": tf.identity(text)}

    module.functions = {"serving_default": default, "joined": joined, "same": same}
    return module


def _sequences():
    """Variable length: the masked sum over time, of rank 2, and a truth value a sequence."""
    module = tf.Module()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 2], tf.float32, name="features"),
            tf.TensorSpec([None], tf.int64, name="length"),
        ]
    )
    def default(features, length):
        mask = tf.sequence_mask(length, tf.shape(features)[1], features.dtype)
        return {"total": tf.reduce_sum(features * mask[:, :, None], axis=1), "is_empty": length == 0}

    module.functions = {"serving_default": default}
    return module


@pytest.fixture(scope="session")
def save_model():
    """save_model(folder, kind, offset=2.0): writes a SavedModel of the kind half_plus, text or sequences."""

    def save(folder, kind="half_plus", offset=2.0):
        module = {"half_plus": lambda: _half_plus(offset), "text": _text, "sequences": _sequences}[kind]()
        tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
        return folder

    return save


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, save_model):
    """Base folders by served name, each with one version. Not to be written to."""
    root = tmp_path_factory.mktemp("saved_models")
    save_model(root / "hp2" / "123")
    save_model(root / "text" / "1", "text")
    save_model(root / "sequences" / "7", "sequences")
    return {name: root / name for name in ("hp2", "text", "sequences")}


@pytest.fixture(scope="session")
def store(model_folders):
    """The three models, loaded; a prediction may take one second."""
    with ModelStore(
        [ModelConfig(name, folder) for name, folder in model_folders.items()], timeout_seconds=1.0
    ) as store:
        assert store.polled.wait(60)
        assert store.unavailable() == []
        yield store


@pytest.fixture(scope="session")
def free_port():
    """free_port(): a port that nobody listens on."""

    def find():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return listener.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def running():
    """running(app): a context in which uvicorn serves the app; gives its URL."""

    @contextlib.contextmanager
    def run(app):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)

    return run


@pytest.fixture(scope="session")
def url(store, running):
    """The URL of a server of the three models that takes bodies of at most 1 MiB."""
    with running(create_app(store, largest_body=2**20)) as url:
        yield url


@pytest.fixture
def eventually():
    """eventually(condition): waits up to 20 seconds for it, and gives its last value."""

    def wait(condition):
        end = time.monotonic() + 20
        while not (value := condition()) and time.monotonic() < end:
            time.sleep(0.05)
        return value

    return wait
