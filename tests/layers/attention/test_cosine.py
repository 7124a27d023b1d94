"""Tests of CosineAttention: the general checks, and the formula in NumPy."""

import numpy as np
import pytest

from keras_dl.layers import CosineAttention

from .check_attention import QUERY, VALUE, check_attention


def test_behaves_as_an_attention_layer(tmp_path):
    check_attention(CosineAttention, {"sharpness": 3.0}, tmp_path, compiled=False)


@pytest.mark.parametrize("heads", [1, 3])
def test_matches_the_formula_for_each_head(heads):
    layer = CosineAttention(sharpness=4.0, num_heads=heads)
    weights = np.reshape(layer(QUERY, VALUE, return_attention_scores=True)[1], (3, heads, 4, 5))
    assert [weight.name for weight in layer.weights] == ["sharpness"] and layer.get_weights()[0] == 4
    for head, (query, key) in enumerate(zip(np.split(QUERY, heads, -1), np.split(VALUE, heads, -1), strict=True)):
        query, key = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (query, key))
        scores = np.exp(4 * query @ key.transpose(0, 2, 1))
        np.testing.assert_allclose(weights[:, head], scores / scores.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_length_of_the_query_has_no_effect(policy):
    layer = CosineAttention(dtype=policy)
    (_, expected), (_, found) = (
        layer(QUERY * np.float32(scale), VALUE, return_attention_scores=True) for scale in (1, 1e-3)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6 if policy == "float32" else 0.01)


def test_a_query_of_zeros_gives_equal_weights():
    _, weights = CosineAttention()(0 * QUERY, VALUE, return_attention_scores=True)
    np.testing.assert_allclose(weights, 0.2, atol=1e-6)


def test_different_features_of_query_and_key_raise_an_error():
    with pytest.raises(ValueError, match="same number of features"):
        CosineAttention()(QUERY, VALUE[..., :4])
