"""Tests of AdditiveAttention: the general checks, and the formula in NumPy."""

import numpy as np
import pytest

from keras_dl.layers import AdditiveAttention

from .check_attention import QUERY, VALUE, check_attention, randomized


def test_behaves_as_an_attention_layer(tmp_path):
    check_attention(AdditiveAttention, {"units": 8, "normalize": True, "use_bias": False}, tmp_path)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_matches_the_formula(normalize, use_bias):
    value = VALUE[..., :5]
    layer = randomized(AdditiveAttention(8, normalize, use_bias, dtype="float64"), QUERY, value)
    names = ["scale", *["gain"] * normalize, *["bias"] * use_bias, "query_kernel", "key_kernel"]
    assert [weight.name for weight in layer.weights] == names
    found = dict(zip(names, layer.get_weights(), strict=True))
    vector = found["scale"]
    if normalize:
        vector = found["gain"] * vector / np.linalg.norm(vector)
    both = (QUERY @ found["query_kernel"])[:, :, None] + (value @ found["key_kernel"])[:, None] + found.get("bias", 0)
    scores = np.exp((vector * np.tanh(both)).sum(-1))
    expected = scores / scores.sum(-1, keepdims=True)
    context, weights = layer(QUERY, value, return_attention_scores=True)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    np.testing.assert_allclose(context, expected @ value, atol=1e-12)
    np.testing.assert_allclose(layer(QUERY, value), expected @ value, atol=1e-12)


def test_weights_are_initialized_as_in_tensorflow_addons():
    layer = AdditiveAttention(16, normalize=True)
    layer.build((None, None, 3), (None, None, 5))
    assert [weight.shape for weight in layer.weights] == [(16,), (), (16,), (3, 16), (5, 16)]
    assert layer.get_weights()[1] == 0.25  # sqrt(1 / units)
    assert not layer.get_weights()[2].any()


def test_heads_split_units_and_values():
    layer = randomized(AdditiveAttention(8, num_heads=2))
    context, weights = layer(QUERY, VALUE, return_attention_scores=True)
    assert weights.shape == (3, 2, 4, 5)
    for head in range(2):
        one = AdditiveAttention(4)
        one.build(QUERY.shape, VALUE.shape)
        half = slice(4 * head, 4 * head + 4)
        one.set_weights([weight[..., half] for weight in layer.get_weights()])
        expected, alone = one(QUERY, VALUE, return_attention_scores=True)
        np.testing.assert_allclose(weights[:, head], alone, atol=1e-6)
        part = slice(3 * head, 3 * head + 3)
        np.testing.assert_allclose(context[..., part], expected[..., part], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be an integer of at least 1. Received: 0"),
        ({"units": 8, "num_heads": 3}, "`units` must be a multiple of num_heads=3. Received: 8"),
        ({"units": 8, "num_heads": 0}, "`num_heads` must be an integer of at least 1. Received: 0"),
        ({"units": 8, "num_heads": True}, "`num_heads` must be an integer of at least 1. Received: True"),
        ({"units": True}, "`units` must be an integer of at least 1. Received: True"),
        ({"units": 8, "dropout": 1.0}, "`dropout` must be a number of at least 0 and below 1. Received: 1.0"),
        ({"units": 8, "dropout": "x"}, "`dropout` must be a number of at least 0 and below 1. Received: 'x'"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdditiveAttention(**arguments)
