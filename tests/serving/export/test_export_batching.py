"""The file that makes TensorFlow Serving batch a model is written only if batching cannot change or fail a request."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.check import check
from keras_dl.serving.export.export import BATCHING, export
from keras_dl.serving.export.traps import find_traps
from keras_dl.serving.messages import BatchingParameters
from keras_dl.serving.server.engine import LoadedModel

EXAMPLE = {"": np.array([[0.5, -2.0]], "float32")}


class Level(Pipeline):
    name = "level"


class Centred(Level):
    """A second signature whose rows depend on each other."""

    def signatures(self, model):
        spec = [tf.TensorSpec([None, 2], tf.float32, name="number")]
        return super().signatures(model) | {"centred": (lambda x: {"y": x - tf.reduce_mean(x, 0)}, spec)}


@pytest.fixture(scope="module")
def model():
    number = keras.Input((2,), name="number")
    return keras.Model(number, keras.layers.Dense(1, bias_initializer="ones")(number))


def test_rows_of_one_shape_are_batched(tmp_path, model, capsys):
    target = export(Level(), model, tmp_path, 1, EXAMPLE)
    parameters = text_format.Parse((target / "batching_params.pbtxt").read_text(), BatchingParameters())
    assert (parameters.max_batch_size.value, parameters.batch_timeout_micros.value) == (64, 0)
    assert parameters.num_batch_threads.value and parameters.max_enqueued_batches.value
    assert not parameters.pad_variable_length_inputs
    assert check(target) and find_traps(target) == []
    assert LoadedModel("level", 1, target).predict("serving_default", {"number": EXAMPLE[""]})


def test_one_signature_can_prevent_batching(tmp_path, model):
    assert not (export(Centred(), model, tmp_path, 1, EXAMPLE) / BATCHING).exists()


def test_models_with_variable_lengths_are_not_batched(tmp_path, model):
    """TensorFlow Serving fails all requests of a batch with different lengths."""
    signal = keras.Input((None, 2), name="signal")
    sequences = keras.Model(signal, keras.layers.Dense(1)(signal))
    assert not (export(Level(), sequences, tmp_path, 1, {"": EXAMPLE[""][None]}) / BATCHING).exists()
