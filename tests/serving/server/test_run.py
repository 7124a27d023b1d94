"""The ready message, the curl example in it, and following the source."""

import json
import shlex
import threading
import types

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.errors import UserError
from keras_dl.serving.server import run
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inputs import read_inputs
from keras_dl.serving.server.run import curl_example, follow, ready_text
from keras_dl.serving.server.store import ModelStore


def test_ready_text_lists_available_and_missing_models(model_folders, tmp_path):
    configs = [ModelConfig("hp2", model_folders["hp2"]), ModelConfig("gone", tmp_path / "gone")]
    store = ModelStore(configs)
    store.poll()
    first, curl, missing, page = ready_text(store, "http://127.0.0.1:8501", 8500).splitlines()
    assert first == "ready: http://127.0.0.1:8501/v1/models/hp2"
    assert curl.startswith("curl --data ") and curl.endswith("http://127.0.0.1:8501/v1/models/hp2:predict")
    assert missing == "gone is not available yet: waiting for a complete version"
    assert page == "page:  http://127.0.0.1:8501/   gRPC: 127.0.0.1:8500"
    assert ready_text(store, "http://[::1]:1", None).splitlines()[-1] == "page:  http://[::1]:1/"
    store = ModelStore([configs[1]])
    store.poll()
    assert ready_text(store, "http://h:1", None).startswith("ready: no model could be loaded\n")


@pytest.fixture
def following(monkeypatch):
    """following(answers): the configurations passed to the store while its source returns these answers in turn."""

    def run_through(answers, refuse=()):
        reloaded, remaining, stop = [], iter(answers), threading.Event()

        class Source:
            def read(self):
                answer = next(remaining, None)
                if answer is None:
                    stop.set()
                    return answers[-1]
                if isinstance(answer, Exception):
                    raise answer
                return answer

        class Store:
            def reload(self, configs, labels_wait):
                reloaded.append(configs)
                if configs in refuse and reloaded.count(configs) == 1:
                    raise UserError("not yet")

        monkeypatch.setattr(run, "_FOLLOW_SECONDS", 0)
        follow(Source(), answers[0], Store(), stop)
        return reloaded

    return run_through


def test_only_a_changed_configuration_reloads_the_store(following):
    assert following([["a"], ["a"], ["a", "b"], ["a", "b"], ["b"]]) == [["a", "b"], ["b"]]


def test_a_failed_reload_is_retried_and_an_unreadable_configuration_changes_nothing(following, caplog):
    answers = [["a"], ["b"], UserError("no text"), UserError("no text"), ["b"], ["b"]]
    assert following(answers, refuse=[["b"]]) == [["b"], ["b"]]
    assert [record.getMessage() for record in caplog.records] == [
        "the configuration could not be applied, retrying: not yet",
        "the configuration could not be applied, retrying: no text",
    ]


def test_following_survives_any_error_of_the_source(following):
    assert following([["a"], ValueError("embedded null byte"), RecursionError(), ["b"]]) == [["b"]]


def fake_model(signature_name, shape, dtype, name="m", manifest=None):
    """The parts of a `LoadedModel` that `curl_example` reads."""
    info = meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto())
    signatures = {signature_name: meta_graph_pb2.SignatureDef(inputs={"x": info})}
    return types.SimpleNamespace(
        name=name,
        inputs={signature_name: read_inputs(signatures[signature_name])},
        signatures=signatures,
        manifest=manifest or {},
    )


@pytest.mark.parametrize(
    "signature_name, shape, dtype, expected",
    [
        ("serving_default", [None, None, 2], tf.float32, {"inputs": {"x": [[[0.0, 0.0]]]}}),
        ("serving_default", None, tf.bool, {"inputs": {"x": [False]}}),
        ("other", [None], tf.string, {"inputs": {"x": ["text"]}, "signature_name": "other"}),
        ("serving_default", [], tf.int64, {"inputs": {"x": 0}}),
        ("serving_default", [None, 28, 28], tf.float32, None),
    ],
)
def test_the_curl_example_is_generated_from_the_signature(signature_name, shape, dtype, expected):
    program, *options, url = shlex.split(curl_example(fake_model(signature_name, shape, dtype), "http://host:1"))
    assert program == "curl"
    if expected is None:
        assert (options, url) == ([], "http://host:1/v1/models/m/metadata")
    else:
        assert (options[0], json.loads(options[1])) == ("--data", expected)
        assert url == "http://host:1/v1/models/m:predict"


def test_the_curl_example_uses_a_short_request_from_the_manifest():
    model = fake_model("serving_default", [None], tf.float32, manifest={"request": {"x": [1.5, 2.0]}})
    *_, body, _ = shlex.split(curl_example(model, "http://host:1"))
    assert json.loads(body) == {"inputs": {"x": [1.5, 2.0]}}
    model.manifest = {"request": {"x": [0.25] * 1000}}
    *_, body, _ = shlex.split(curl_example(model, "http://host:1"))
    assert json.loads(body) == {"inputs": {"x": [0.0]}}


def test_the_curl_example_encodes_the_model_name():
    model = fake_model("serving_default", [None], tf.float32, name="a b/ü?")
    *_, url = shlex.split(curl_example(model, "http://host:1"))
    assert url == "http://host:1/v1/models/a%20b%2F%C3%BC%3F:predict"
