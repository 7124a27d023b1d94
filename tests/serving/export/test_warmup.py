"""Warm-up requests: the format of TensorFlow Serving, and only requests that the version answers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.export import export
from keras_dl.serving.export.warmup import LARGEST_FILE, LARGEST_RECORD, WARMUP, write_warmup
from keras_dl.serving.messages import PredictionLog
from keras_dl.serving.server.engine import LoadedModel


class Signals(Pipeline):
    """Two signatures that match the example, and one that does not."""

    name = "signals"

    def signatures(self, model):
        spec = [tf.TensorSpec([None, None, 2], tf.float32, name="signal")]
        with_steps = [*spec, tf.TensorSpec([], tf.int32, name="steps")]
        return {
            "serving_default": (lambda signal: {"level": model(signal)}, spec),
            "mean": (lambda signal: {"mean": tf.reduce_mean(signal, axis=1)}, spec),
            "forecast": (lambda signal, steps: {"level": model(signal)[:, :steps]}, with_steps),
        }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    signal = keras.Input((None, 2))
    model = keras.Model(signal, keras.layers.Dense(1)(signal))
    request = {"signal": np.ones((1, 6, 2), "float32")}
    return export(Signals(), model, tmp_path_factory.mktemp("saved_models"), 3, request)


def records(folder):
    return [record.numpy() for record in tf.data.TFRecordDataset(str(folder / WARMUP))]


def test_tensorflow_serving_can_read_them(exported):
    messages = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    assert str(WARMUP) == "assets.extra/tf_serving_warmup_requests"
    found = []
    for record in records(exported):
        request = messages.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "signals"
        assert request.model_spec.WhichOneof("version_choice") is None
        ((name, tensor),) = request.inputs.items()
        assert (name, tensor.dtype) == ("signal", tf.float32.as_datatype_enum)
        found.append((request.model_spec.signature_name, tf.make_ndarray(tensor).shape))
    shapes = [(1, 6, 2), (4, 6, 2), (3, 6, 2)]
    assert sorted(found) == sorted((name, shape) for name in ("serving_default", "mean") for shape in shapes)


def test_the_version_answers_all(exported):
    served = LoadedModel("signals", 3, exported)  # also replays them
    for record in records(exported):
        request = PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert served.predict(request.model_spec.signature_name, inputs)


def test_the_file_size_is_limited(tmp_path):
    small, large = np.zeros(10, "float32"), np.zeros(LARGEST_RECORD // 4, "float32")
    half = np.zeros(LARGEST_RECORD // 8, "float32")
    requests = [("a", [{"x": large}, {"x": small}]), ("b", [{"x": half}] * 20)]
    written = write_warmup(tmp_path, "m", requests)
    assert written == len(records(tmp_path)) == 8
    assert (tmp_path / WARMUP).stat().st_size <= LARGEST_FILE + 1000


def test_no_file_is_written_without_requests(tmp_path):
    assert write_warmup(tmp_path, "m", [("a", [])]) == 0
    assert not list(tmp_path.iterdir())


def test_strings(tmp_path):
    write_warmup(tmp_path, "m", [("a", [{"text": np.array(["hä".encode(), b"\xff"], object)}])])
    request = PredictionLog.FromString(records(tmp_path)[0]).predict_log.request
    assert list(request.inputs["text"].string_val) == ["hä".encode(), b"\xff"]
