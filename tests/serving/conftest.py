"""Fixtures: small SavedModels, and servers of them on free ports."""

import json
import os
import shutil
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import requests
import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.grpc.server import create_grpc_server
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.limits import Limits
from keras_dl.serving.server.store import ModelStore

from ..served import running


def _half_plus(offset):
    """y = x / 2 + offset for any shape, and signatures that can fail or run for a long time."""
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

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_type(x):
        return {"y": tf.cast(x, tf.float16)}

    module.functions = {"serving_default": default, "product": product, "spin": spin, "half": half_type}
    return module


def _save_half_plus_two(folder):
    """The model of TensorFlow Serving's own tests: y = x/2 + 2, y2 = x/2 + 3, y3 = x2/2 + 3 for examples or tensors."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a, b, c = (v1.Variable(value, name=name) for name, value in (("a", 0.5), ("b", 2.0), ("c", 3.0)))
        serialized = v1.placeholder(tf.string, name="tf_example")
        features = {"x": tf.io.FixedLenFeature([1], tf.float32), "x2": tf.io.FixedLenFeature([1], tf.float32, [0.0])}
        parsed = tf.io.parse_example(serialized, features)
        x, x2 = (tf.identity(tf.reshape(parsed[name], [-1, 1]), name=name) for name in ("x", "x2"))
        y, y2, y3 = tf.add(a * x, b, name="y"), tf.add(a * x, c, name="y2"), tf.add(a * x2, c, name="y3")
        signatures = v1.saved_model.signature_def_utils
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": signatures.predict_signature_def({"x": x}, {"y": y}),
                "regress_x_to_y": signatures.regression_signature_def(serialized, y),
                "regress_x_to_y2": signatures.regression_signature_def(serialized, y2),
                "regress_x2_to_y3": _tensors("regress", x2, "outputs", y3),
                "classify_x_to_y": signatures.classification_signature_def(serialized, None, y),
                "classify_x2_to_y3": _tensors("classify", x2, "scores", y3),
            },
        )
        builder.save()


def _tensors(method, inputs, name, outputs):
    """A classify or regress signature that takes tensors instead of examples."""
    info = tf.compat.v1.saved_model.utils.build_tensor_info
    return tf.compat.v1.saved_model.signature_def_utils.build_signature_def(
        {"inputs": info(inputs)}, {name: info(outputs)}, f"tensorflow/serving/{method}"
    )


def _text():
    """One string input; text, bytes, count and scalar outputs."""
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
    """Sequences of variable length: the masked sum over time, and a boolean per sequence."""
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


_ECHOED = (tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64)
_ECHOED += (tf.bool, tf.string, tf.half, tf.complex64)


def _echo():
    """One signature per dtype, which returns its input of any shape."""
    module = tf.Module()

    def signature(dtype):
        def echo(x):
            return {"y": tf.identity(x), "y_bytes": tf.identity(x)} if dtype == tf.string else {"y": tf.identity(x)}

        return tf.function(echo, input_signature=[tf.TensorSpec(None, dtype, name="x")])

    module.functions = {dtype.name: signature(dtype) for dtype in _ECHOED}
    return module


def _scores():
    """Classify and regress signatures for x / 2 + 2, and one with labels."""
    module = tf.Module()

    def signature(outputs):
        def run(inputs):
            features = {"x": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])}
            return outputs(tf.io.parse_example(inputs, features)["x"])

        return tf.function(run, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])

    def labeled(x):
        labels = tf.where(x > 0, tf.constant([["positive", "negative"]]), tf.constant([["negative", "positive"]]))
        return {"classes": labels, "scores": tf.concat([tf.abs(x), -tf.abs(x)], axis=1)}

    module.functions = {
        "serving_default": signature(lambda x: {"outputs": x / 2 + 2}),
        "regress_x_to_y": signature(lambda x: {"outputs": x / 2 + 2}),
        "regress_x_to_y2": signature(lambda x: {"outputs": x / 2 + 3}),
        "classify_x_to_y": signature(lambda x: {"scores": x / 2 + 2}),
        "classify_sign": signature(labeled),
    }
    return module


def _reader():
    """Unsafe: returns the content of any file on the server."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(path):
        return {"content": tf.io.read_file(path)}

    module.functions = {"serving_default": read}
    return module


@pytest.fixture(scope="session")
def save_model():
    """save_model(folder, kind, offset=2.0): writes a SavedModel: half_plus, text, sequences, echo, scores, reader."""

    def save(folder, kind="half_plus", offset=2.0):
        kinds = {"text": _text, "sequences": _sequences, "echo": _echo, "scores": _scores, "reader": _reader}
        module = _half_plus(offset) if kind == "half_plus" else kinds[kind]()
        tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
        return folder

    return save


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, save_model):
    """Base folders by served name, each with one version. Read-only."""
    root = tmp_path_factory.mktemp("saved_models")
    save_model(root / "hp2" / "123")
    save_model(root / "text" / "1", "text")
    save_model(root / "sequences" / "7", "sequences")
    save_model(root / "echo" / "1", "echo")
    save_model(root / "scores" / "1", "scores")
    save_model(root / "reader" / "1", "reader")
    _save_half_plus_two(root / "half_plus_two" / "123")
    return {name: root / name for name in ("hp2", "text", "sequences", "echo", "scores", "reader", "half_plus_two")}


def _limit_spin(model):
    """Only spin gets a short deadline: on a busy machine, any other run could exceed it too."""
    timeout, model._timeout_seconds = model._timeout_seconds, 1.0
    for pool in range(model._idle_pools.qsize()):
        model._callables["spin", pool] = model._make_callable(model.signatures["spin"], pool)
    model._timeout_seconds = timeout


@pytest.fixture(scope="session")
def store(model_folders):
    """A store of these models. Version 123 of half_plus_two is "stable"; a run of the signature spin ends after 1 s."""
    labels = {"half_plus_two": {"stable": 123}}
    configs = [ModelConfig(name, folder, labels=labels.get(name, {})) for name, folder in model_folders.items()]
    with ModelStore(configs, timeout_seconds=60.0, allow_unsafe=True) as store:
        assert store.polled.wait(120)
        assert store.unavailable() == []
        _limit_spin(store.get("hp2"))
        yield store


@pytest.fixture(scope="session")
def inference(store):
    """An `Inference` of these models."""
    inference = Inference(store, Metrics())
    yield inference
    inference.close(10)


@pytest.fixture(scope="session", name="running")
def running_fixture():
    """running(app, limits): a context in which uvicorn serves the app; yields its URL."""
    return running


@pytest.fixture(scope="session")
def url(inference, running):
    """The URL of a server of these models that accepts bodies of at most 1 MiB."""
    with running(create_app(inference, Limits(body_bytes=2**20))) as url:
        yield url


@pytest.fixture
def send(url):
    """send(method, path, body): returns the status and the parsed answer; the path is sent unchanged."""

    def call(method, path, body=None):
        request = requests.Request(method, url, data=body if isinstance(body, str | bytes | None) else json.dumps(body))
        prepared = request.prepare()
        prepared.url = url + path  # prepare() would resolve ".." and decode %2e
        with requests.Session() as session:
            response = session.send(prepared, timeout=30)
        assert response.headers["Content-Type"] == "application/json"
        return response.status_code, json.loads(response.content or "null")

    return call


@pytest.fixture
def eventually():
    """eventually(condition): waits until the condition is true, for at most two minutes; returns its last value."""

    def wait(condition):
        end = time.monotonic() + 120
        while not (value := condition()) and time.monotonic() < end:
            time.sleep(0.05)
        return value

    return wait


@pytest.fixture(scope="session")
def grpc_address(store):
    """The address of a gRPC server of the same models that accepts messages of at most 1 MiB."""
    inference = Inference(store, Metrics())
    server, port = create_grpc_server(inference, "127.0.0.1:0", largest_message=2**20)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    inference.close(5)


@pytest.fixture(scope="module")  # not longer: it blocks event loops of tests in other modules
def browser():
    """A headless browser; tests are skipped on machines without one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[test]")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs one of {', '.join(names)}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
