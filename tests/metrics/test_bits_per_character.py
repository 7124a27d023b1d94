import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.metrics import BitsPerCharacter


def logits(probabilities):
    return np.log(np.array(probabilities, "float32"))


def test_bits_by_hand():
    metric = BitsPerCharacter()
    # 1/2 and 1/4: 1 and 2 bits.
    metric.update_state([[0, 1]], logits([[[0.5, 0.5], [0.75, 0.25]]]))
    assert float(metric.result()) == pytest.approx(1.5)
    # One more character of 3 bits: 6 bits for three characters, not the mean 2.25 of two means.
    metric.update_state([[1]], logits([[[0.875, 0.125]]]))
    assert float(metric.result()) == pytest.approx(2.0)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_weights_equal_repetitions():
    metric = BitsPerCharacter()
    wrong = logits([[[0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]])
    wrong[0, 2] = np.nan
    metric.update_state([[0, 1, 0]], wrong, sample_weight=[[1.0, 3.0, 0.0]])
    assert float(metric.result()) == pytest.approx((1 + 3 * 2) / 4)


def test_weights_of_whole_rows():
    metric = BitsPerCharacter()
    metric.update_state([[0, 0], [1, 1]], logits([[[0.5, 0.5]] * 2, [[0.75, 0.25]] * 2]), sample_weight=[0.0, 2.0])
    assert float(metric.result()) == pytest.approx(2.0)


def test_masked_positions_are_ignored():
    metric, prediction = BitsPerCharacter(), tf.constant(logits([[[0.5, 0.5], [0.75, 0.25]]]))
    prediction._keras_mask = tf.constant([[True, False]])
    metric.update_state([[0, 1]], prediction)
    assert float(metric.result()) == pytest.approx(1.0)


def test_bytes_of_one_character_count_once():
    ids = np.frombuffer("é字a".encode(), np.uint8)[None]
    flat = np.zeros((1, len(ids[0]), 256), "float32")
    metric = BitsPerCharacter(utf8=True)
    metric.update_state(ids, flat)
    assert float(metric.result()) == pytest.approx(8 * 6 / 3)


def test_in_weighted_metrics_of_a_model():
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.Embedding(4, 4, embeddings_initializer="zeros")(ids))
    model.compile(loss="sparse_categorical_crossentropy", weighted_metrics=[BitsPerCharacter()])
    batches = tf.data.Dataset.from_tensors((np.ones((2, 3)), np.ones((2, 3)), np.array([[1, 1, 0], [0, 0, 0.0]])))
    assert model.evaluate(batches, verbose=0, return_dict=True)["bits_per_character"] == pytest.approx(2.0)


def test_config():
    metric = keras.metrics.deserialize(keras.metrics.serialize(BitsPerCharacter(utf8=True, name="bits")))
    assert (metric.utf8, metric.name) == (True, "bits")
