"""Tests of AttentionPooling: the formula in NumPy, padding, Keras masks, saving and training."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import AttentionPooling

SEQUENCE = np.random.default_rng(5).normal(size=(3, 6, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0], [0] * 6], bool)


def randomized(**arguments):
    layer = AttentionPooling(5, **arguments)
    layer.build(SEQUENCE.shape)
    generator = np.random.default_rng(6)
    layer.set_weights([generator.normal(0, 0.7, weight.shape) for weight in layer.get_weights()])
    return layer


def test_matches_the_formula():
    layer = randomized(dtype="float64")
    assert [weight.name for weight in layer.weights] == ["kernel", "bias", "scale"]
    kernel, bias, scale = layer.get_weights()
    scores = np.exp(np.tanh(SEQUENCE @ kernel + bias) @ scale)
    expected = scores / scores.sum(-1, keepdims=True)
    pooled, weights = layer(SEQUENCE, return_attention_scores=True)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    np.testing.assert_allclose(pooled, np.einsum("bt,btd->bd", expected, SEQUENCE), atol=1e-12)


@pytest.mark.parametrize("junk", [0.0, 1e6, np.inf, np.nan])
def test_padding_has_no_effect(junk):
    layer = randomized()
    sequence = tf.Variable(np.where(MASK[..., None], SEQUENCE, junk))
    with tf.GradientTape() as tape:
        pooled, weights = layer(sequence, mask=MASK, return_attention_scores=True)
        total = tf.reduce_sum(tf.sin(pooled))
    slopes = tape.gradient(total, [sequence, *(weight.value for weight in layer.weights)])
    np.testing.assert_allclose(pooled[1:2], layer(SEQUENCE[1:2, 1:3]), atol=1e-6)
    assert not np.asarray(pooled)[2].any() and not np.asarray(weights)[~MASK].any()
    assert all(np.isfinite(slope).all() for slope in slopes) and not np.asarray(slopes[0])[~MASK].any()


def test_symbolic_shapes_match_the_results():
    layer = randomized()
    pooled, weights = layer(SEQUENCE, return_attention_scores=True)
    assert pooled.shape == layer.compute_output_shape(SEQUENCE.shape) == (3, 4)
    assert (pooled.shape, weights.shape) == layer.compute_output_shape(SEQUENCE.shape, return_attention_scores=True)
    outputs = layer(keras.KerasTensor((None, None, 4)), return_attention_scores=True)
    assert [tensor.shape for tensor in outputs] == [(None, 4), (None, None)]


@pytest.mark.usefixtures("graphs")
def test_learns_in_a_model_with_keras_masks_and_is_saved(tmp_path):
    layer = AttentionPooling(5, dropout=0.1, seed=1)
    config = layer.get_config()
    assert AttentionPooling.from_config(json.loads(json.dumps(config))).get_config() == config
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(7, 8, mask_zero=True)(tokens)
    model = keras.Model(tokens, keras.layers.Dense(1)(layer(x)))
    rows = np.random.default_rng(1).integers(1, 7, (64, 6)).astype("int32")
    target = (rows == 3).any(axis=1).astype("float32")
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=True)
    history = model.fit(rows, target, epochs=10, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2
    padded = np.pad(rows, [[0, 0], [0, 3]])
    np.testing.assert_allclose(model(padded), model(rows), atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(rows), model(rows))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    pooled = randomized(dtype=policy)(SEQUENCE, mask=MASK)
    assert pooled.dtype.name == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(pooled, "float32"), randomized()(SEQUENCE, mask=MASK), atol=0.05)


def test_dropout_is_applied_only_in_training():
    layer = randomized(dropout=0.5, seed=1)
    assert np.abs(layer(SEQUENCE, training=True) - layer(SEQUENCE, training=True)).max() > 1e-3
    np.testing.assert_array_equal(layer(SEQUENCE), randomized()(SEQUENCE))


def test_invalid_input_raises_an_error():
    with pytest.raises(ValueError, match="`units` must be an integer of at least 1. Received: 0"):
        AttentionPooling(0)
    with pytest.raises(ValueError, match="`dropout` must be a number of at least 0 and below 1. Received: 2"):
        AttentionPooling(4, dropout=2)
    with pytest.raises(ValueError, match="`dropout` must be a number of at least 0 and below 1. Received: 'x'"):
        AttentionPooling(4, dropout="x")
    with pytest.raises(ValueError, match=r"Expected `sequence` of shape \[B, T, features\]. Received: \(3, 4\)"):
        AttentionPooling(4)(SEQUENCE[:, 0])
    with pytest.raises(ValueError, match=r"Expected `mask` of shape \[B, T\]. Received: \(3, 6, 1\)"):
        AttentionPooling(4)(SEQUENCE, mask=MASK[..., None])
