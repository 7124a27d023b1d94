"""causal_mask and masked_softmax: rows without keys, arbitrary padding, half precision."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.ops.attention import causal_mask, masked_softmax

from .textbook import seen, softmax


@pytest.mark.parametrize(("queries", "keys"), [(3, 3), (2, 5), (5, 2), (1, 4), (0, 3), (3, 0)])
def test_the_last_query_attends_to_all_keys(queries, keys):
    mask = causal_mask(queries, keys).numpy()
    assert mask.shape == (queries, keys)
    np.testing.assert_array_equal(mask, seen(None, True, queries, keys)[0])
    traced = tf.function(causal_mask, input_signature=[tf.TensorSpec([], tf.int32)] * 2)
    np.testing.assert_array_equal(traced(queries, keys), mask)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(0, 4),
    keys=st.integers(0, 5),
    content=st.sampled_from([np.nan, np.inf, -np.inf, 1e38]),
)
def test_matches_the_softmax_of_the_unmasked_entries(seed, rows, keys, content):
    generator = np.random.default_rng(seed)
    scores, mask = generator.normal(0, 9, (2, rows, keys)), generator.random((2, rows, keys)) < 0.6
    wanted = softmax(scores, mask)
    given = tf.constant(np.where(mask, scores, content))
    upstream = generator.normal(size=scores.shape)
    with tf.GradientTape() as tape:
        tape.watch(given)
        weights = masked_softmax(given, mask)
    np.testing.assert_allclose(weights, wanted, atol=1e-12)
    slope = wanted * (upstream - np.sum(wanted * upstream, axis=-1, keepdims=True))
    np.testing.assert_allclose(tape.gradient(weights, given, upstream), slope, atol=1e-12)


def test_the_mask_broadcasts_and_may_be_numeric():
    scores = np.random.default_rng(0).normal(size=(2, 3, 4))
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0]])
    weights = masked_softmax(scores, mask[:, None])
    np.testing.assert_allclose(weights, softmax(scores, np.array(mask[:, None], bool)), atol=1e-12)
    np.testing.assert_allclose(masked_softmax(scores), tf.nn.softmax(scores), atol=1e-12)


@pytest.mark.parametrize(("dtype", "atol"), [("float16", 1e-3), ("bfloat16", 4e-3)])
def test_half_precision(dtype, atol):
    scores = tf.constant(np.random.default_rng(0).normal(0, 3, (2, 3000)), dtype)
    mask = np.arange(3000) % 3 > 0
    weights = masked_softmax(scores, mask)
    assert weights.dtype == dtype
    np.testing.assert_allclose(np.asarray(weights, float), softmax(np.asarray(scores, float), mask), atol=atol)
    # The largest and smallest values.
    extreme = tf.constant([[np.finfo(np.float16).max, -np.finfo(np.float16).max, 0.0]], dtype)
    np.testing.assert_array_equal(np.asarray(masked_softmax(extreme), float), [[1, 0, 0]])
    np.testing.assert_array_equal(np.asarray(masked_softmax(extreme, [[False, True, False]]), float), [[0, 1, 0]])


def test_scores_of_minus_infinity():
    low = -np.inf
    np.testing.assert_allclose(masked_softmax(np.array([[low, 0.0], [low, low]])), [[0, 1], [0, 0]])
