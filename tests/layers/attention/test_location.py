"""Tests of LocationAttention: the general checks, and the formula in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import LocationAttention

from .check_attention import QUERY, VALUE, check_attention, randomized


def test_behaves_as_an_attention_layer(tmp_path):
    check_attention(LocationAttention, {"max_length": 7}, tmp_path)


def test_matches_the_formula():
    layer = randomized(LocationAttention(7))
    (kernel,) = layer.get_weights()
    assert kernel.shape == (6, 7)
    scores = np.exp((QUERY @ kernel)[..., :5])
    context, weights = layer(QUERY, VALUE, return_attention_scores=True)
    np.testing.assert_allclose(weights, scores / scores.sum(-1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(layer(QUERY, VALUE), context, atol=1e-6)


def test_heads_split_the_query():
    layer = randomized(LocationAttention(7, num_heads=2))
    _, weights = layer(QUERY, VALUE, return_attention_scores=True)
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        scores = np.exp((QUERY[..., part] @ layer.get_weights()[0][part])[..., :5])
        np.testing.assert_allclose(weights[:, head], scores / scores.sum(-1, keepdims=True), atol=1e-6)


def test_the_content_of_the_memory_has_no_effect_on_the_weights():
    layer = randomized(LocationAttention(5))
    _, one = layer(QUERY, VALUE, return_attention_scores=True)
    _, other = layer(QUERY, -VALUE, return_attention_scores=True)
    np.testing.assert_array_equal(one, other)


def test_a_memory_that_is_too_long_raises_an_error():
    message = r"at most max_length=4 steps. Received: shape \(3, 5, 6\)"
    with pytest.raises(ValueError, match=message):
        LocationAttention(4)(QUERY, VALUE)
    built = LocationAttention(4)
    built(QUERY, VALUE[:, :3])
    with pytest.raises(ValueError, match=message):
        built(QUERY, VALUE)
    with pytest.raises(ValueError, match=r"max_length=4 steps"):
        LocationAttention(4)(keras.KerasTensor((None, 4, 6)), keras.KerasTensor((None, 5, 6)))
    with pytest.raises(ValueError, match="`max_length` must be an integer of at least 1. Received: 0"):
        LocationAttention(0)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(("max_length", "scores"), [(1, True), (4, False)])
def test_a_memory_that_is_too_long_at_run_time_raises_an_error(max_length, scores, tmp_path):
    module = tf.Module()
    module.layer = LocationAttention(max_length)
    shapes = [tf.TensorSpec([None, None, 6])] * 2
    module.attend = tf.function(
        lambda query, value: module.layer(query, value, return_attention_scores=scores), input_signature=shapes
    )
    fits = module.attend(QUERY, VALUE[:, :max_length])
    tf.saved_model.save(module, tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    for attend in (module.attend, loaded.attend):
        np.testing.assert_array_equal(
            tf.nest.flatten(attend(QUERY, VALUE[:, :max_length]))[0], tf.nest.flatten(fits)[0]
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most max_length={max_length} steps"):
            attend(QUERY, VALUE)
