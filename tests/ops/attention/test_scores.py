"""The score functions, compared to Keras' layers and NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.attention import (
    additive_score,
    cosine_score,
    dot_score,
    general_score,
    location_score,
    scaled_dot_score,
)

GENERATOR = np.random.default_rng(0)
QUERY, KEY = GENERATOR.normal(size=(2, 3, 4)).astype("float32"), GENERATOR.normal(size=(2, 5, 4)).astype("float32")
SCALE, KERNEL = GENERATOR.normal(size=4).astype("float32"), GENERATOR.normal(size=(4, 6)).astype("float32")


def test_additive_matches_keras():
    layer = keras.layers.AdditiveAttention()
    layer.build([QUERY.shape, KEY.shape])
    layer.set_weights([SCALE])
    wanted = layer._calculate_scores(keras.ops.array(QUERY), keras.ops.array(KEY))
    np.testing.assert_allclose(additive_score(QUERY, KEY, SCALE), wanted, atol=1e-6)


def test_dot_matches_keras():
    layer = keras.layers.Attention()
    layer.build([QUERY.shape, KEY.shape])
    wanted = layer._calculate_scores(keras.ops.array(QUERY), keras.ops.array(KEY))
    np.testing.assert_allclose(dot_score(QUERY, KEY), wanted, atol=1e-6)
    np.testing.assert_allclose(scaled_dot_score(QUERY, KEY), wanted / 2, atol=1e-6)


def test_general():
    kernel, key = KERNEL, GENERATOR.normal(size=(2, 5, 6)).astype("float32")
    wanted = np.einsum("btd,de,bse->bts", QUERY, kernel, key)
    np.testing.assert_allclose(general_score(QUERY, key, kernel), wanted, atol=1e-5)


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-6), ("float16", 1e-2)])
def test_cosine(dtype, atol):
    query, key = QUERY.copy(), KEY.copy()
    query[0, 0], key[1] = 0, key[1] * 1e-3  # squares underflow in float16
    lengths = np.linalg.norm(query, axis=-1)[..., None] * np.linalg.norm(key, axis=-1)[:, None]
    wanted = 3 * np.einsum("btd,bsd->bts", query, key) / np.where(lengths, lengths, 1)
    query = tf.constant(query, dtype)
    with tf.GradientTape() as tape:
        tape.watch(query)
        score = cosine_score(query, tf.constant(key, dtype), 3.0)
    assert score.dtype == dtype
    np.testing.assert_allclose(score, wanted, atol=atol)
    assert np.all(np.isfinite(tape.gradient(score, query)[0, 1:]))


def test_location():
    for length in (0, 3, 6, tf.constant(3)):
        score = location_score(QUERY, KERNEL, length)
        np.testing.assert_allclose(score, QUERY @ KERNEL[:, : int(length)], atol=1e-6)
    with pytest.raises(ValueError, match=r"a column for each of the 7 positions. Received: \[4, 6\]"):
        location_score(QUERY, KERNEL, 7)


def test_more_leading_axes():
    query, key = QUERY[:, None], KEY[:, None]
    np.testing.assert_allclose(additive_score(query, key, SCALE)[:, 0], additive_score(QUERY, KEY, SCALE), atol=1e-6)
    np.testing.assert_allclose(scaled_dot_score(query, key)[:, 0], scaled_dot_score(QUERY, KEY), atol=1e-6)


def test_invalid_shapes_raise():
    for call in (dot_score, scaled_dot_score, lambda *x: additive_score(*x, SCALE), lambda *x: cosine_score(*x, 1.0)):
        with pytest.raises(ValueError, match=r"same number of features. Received: \[2, 3, 4\] and \[2, 5, 3\]"):
            call(QUERY, KEY[..., :3])
    with pytest.raises(ValueError, match=r"`scale` must be of shape \[4\]. Received: \[3\]"):
        additive_score(QUERY, KEY, SCALE[:3])
    with pytest.raises(ValueError, match=r"`kernel` must be of shape \[4, 4\], .* Received: \[4, 6\]"):
        general_score(QUERY, KEY, KERNEL)
