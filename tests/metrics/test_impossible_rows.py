import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import CTCOutput
from keras_dl.metrics import ImpossibleRows
from keras_dl.ops.ctc import certain_blank


def test_rows_that_do_not_fit_are_counted_over_batches():
    metric = ImpossibleRows()
    metric.update_state(np.array([[1, 2, 3], [1, 1, 2], [1, 1, -1], [0, 0, 0]]), np.zeros((4, 3, 4)))
    assert metric.result() == 1  # 1 - 1 2 requires four frames
    metric.update_state(np.array([[1, 2], [1, -1], [2, 2]]), np.zeros((3, 1, 4)))
    assert metric.result() == 3
    metric.update_state(np.array([[1], [-1]]), np.zeros((2, 0, 4)))
    assert metric.result() == 4
    metric.reset_state()
    assert metric.result() == 0


@pytest.mark.parametrize("blank", [0, 2])
def test_any_class_may_be_the_blank(blank):
    metric = ImpossibleRows(blank)
    metric.update_state(np.array([[1, 3, blank], [1, 1, blank]]), np.zeros((2, 2, 4)))
    assert metric.result() == 1


def test_masked_frames_are_ignored():
    metric, logits = ImpossibleRows(), tf.fill([3, 4, 3], np.nan)
    logits._keras_mask = tf.constant([[True] * 4, [True, True, False, True], [False] * 4])
    metric.update_state(np.array([[1, 1, 2], [1, 1, 2], [0, 0, 0]]), logits)
    assert metric.result() == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_in_a_model(batch_size):
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Identity()])
    model.compile(loss=lambda y_true, y_pred: 0.0 * y_pred[:, 0, 0], metrics=[ImpossibleRows()])
    labels = np.array([[1, 1], [1, 2], [3, 3]])
    found = model.evaluate(np.zeros((3, 2, 4)), labels, batch_size=batch_size, verbose=0, return_dict=True)
    assert found["impossible_rows"] == 2


def test_config_and_weights():
    metric = keras.metrics.deserialize(keras.metrics.serialize(ImpossibleRows(blank_index=3, name="other")))
    assert (type(metric), metric.blank_index, metric.name) == (ImpossibleRows, 3, "other")
    with pytest.raises(ValueError, match="ImpossibleRows counts whole rows and does not support `sample_weight`"):
        metric.update_state(np.array([[1]]), np.zeros((1, 1, 4)), sample_weight=np.ones(1))


@pytest.mark.parametrize("blank", [0, 2])
def test_masked_frames_are_ignored_after_the_output_layer(blank):
    layers = [keras.Input((None, 2)), keras.layers.Masking(), CTCOutput(["a", "b"], blank)]
    model = keras.Sequential(layers)
    model.compile(loss=lambda y_true, y_pred: 0.0 * y_pred[:, 0, 0], metrics=[ImpossibleRows(blank)])
    inputs = np.ones((3, 4, 2), "float32") * (np.arange(4) < np.array([[4], [3], [0]]))[..., None]
    labels = np.array([[1, 1, 3], [1, 1, 3], [-1, -1, -1]]) if blank == 2 else np.array([[1, 1, 2], [1, 1, 2], [0] * 3])
    assert model.evaluate(inputs, labels, verbose=0, return_dict=True)["impossible_rows"] == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_certain_blanks_are_ignored(dtype):
    logits = tf.cast([[[1e4, -1e3, -1e3], [0, 0, 0], [-3e4, 3e4, -3e4]]], dtype)
    for frames in range(4):
        metric = ImpossibleRows()
        metric.update_state(np.array([[1, 2, 1]]), certain_blank(logits, [[place < frames for place in range(3)]]))
        assert metric.result() == (frames < 3)
