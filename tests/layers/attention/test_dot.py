"""Tests of attention with dot products: the general checks, and the formulas in NumPy."""

import numpy as np
import pytest

from keras_dl.layers import DotAttention, GeneralAttention, ScaledDotProductAttention

from .check_attention import QUERY, VALUE, check_attention, randomized


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (DotAttention, {"use_scale": True}),
        (ScaledDotProductAttention, {}),
        (GeneralAttention, {"use_scale": True}),
    ],
)
def test_behaves_as_an_attention_layer(cls, arguments, tmp_path):
    # All three use the same kernel.
    check_attention(cls, arguments, tmp_path, compiled=cls is GeneralAttention)


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def assert_attends(layer, expected, query=QUERY, value=VALUE):
    context, weights = layer(query, value, return_attention_scores=True)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    np.testing.assert_allclose(context, expected @ value, atol=1e-12)
    np.testing.assert_allclose(layer(query, value), expected @ value, atol=1e-12)


def test_layers_match_their_formulas():
    query, value = QUERY.astype("float64"), VALUE.astype("float64")
    scores = query @ value.transpose(0, 2, 1)
    assert_attends(DotAttention(dtype="float64"), softmax(scores), query, value)
    assert_attends(ScaledDotProductAttention(dtype="float64"), softmax(scores / np.sqrt(6)), query, value)
    layer = randomized(DotAttention(use_scale=True, dtype="float64"))
    assert_attends(layer, softmax(scores * layer.get_weights()[0]), query, value)
    layer = randomized(GeneralAttention(use_scale=True, dtype="float64"), QUERY, value[..., :5])
    scale, kernel = layer.get_weights()
    assert [weight.name for weight in layer.weights] == ["scale", "key_kernel"] and kernel.shape == (5, 6)
    value = value[..., :5]
    assert_attends(layer, softmax(scale * (query @ kernel.T @ value.transpose(0, 2, 1))), query, value)


def test_scores_are_scaled_by_the_features_per_head():
    layer = ScaledDotProductAttention(num_heads=3)
    _, weights = layer(QUERY, VALUE, return_attention_scores=True)
    for head in range(3):
        part = slice(2 * head, 2 * head + 2)
        expected = softmax(QUERY[..., part] @ VALUE[..., part].transpose(0, 2, 1) / np.sqrt(2))
        np.testing.assert_allclose(weights[:, head], expected, atol=1e-6)


@pytest.mark.parametrize("cls", [DotAttention, ScaledDotProductAttention])
def test_different_features_of_query_and_key_raise_an_error(cls):
    with pytest.raises(ValueError, match=r"same number of features.* Received: \(3, 4, 6\) and \(3, 5, 4\)"):
        cls()(QUERY, VALUE[..., :4])
    built = cls()
    built(QUERY, VALUE)
    with pytest.raises(ValueError, match=r"\[3, 4, 1, 6\], \[3, 5, 1, 4\]"):
        built(QUERY, VALUE[..., :4])


@pytest.mark.parametrize(("features", "name"), [((4, 6), "query"), ((6, 4), "value")])
def test_heads_that_do_not_divide_the_features_raise_an_error(features, name):
    query, value = QUERY[..., : features[0]], VALUE[..., : features[1]]
    expected = f"features of the {name} to be a multiple of num_heads=3. Received: 4"
    with pytest.raises(ValueError, match=expected):
        GeneralAttention(num_heads=3)(query, value)
