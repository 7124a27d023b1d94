"""Tests of MonotonicAttention: the general checks, and the recursion of the paper."""

import numpy as np
import pytest

from keras_dl.layers import AdditiveAttention, GeneralAttention, MonotonicAttention

from .check_attention import QUERY, VALUE, VALUE_MASK, check_attention, randomized


@pytest.mark.parametrize(
    "arguments",
    [
        {"units": 8, "mode": "parallel", "normalize": True},
        {"score": "general", "mode": "recursive", "score_bias": -0.5},
        {"units": 8},
    ],
)
def test_behaves_as_an_attention_layer(arguments, tmp_path):
    check_attention(MonotonicAttention, arguments, tmp_path, heads=None, compiled=False, half_tolerance=0.1)


def textbook(score, hard=False):
    """Computes equations 8 to 10 of Raffel et al. 2017 for one row, query by query; `score` is `[T, S]`."""
    previous, rows = np.eye(1, score.shape[1])[0], []
    for row in score:
        stops = (row > 0).astype(float) if hard else 1 / (1 + np.exp(-row))
        reached, alignment = 0.0, []
        for s in range(len(row)):
            reached = (1 - stops[s - 1] if s else 1) * reached + previous[s]
            alignment.append(stops[s] * reached)
        previous = np.array(alignment)
        rows.append(previous)
    return np.stack(rows)


def general(mode, **options):
    layer = randomized(MonotonicAttention("general", mode=mode, dtype="float64", **options))
    bias, kernel = layer.get_weights()
    return layer, QUERY.astype("float64") @ kernel.T @ VALUE.transpose(0, 2, 1) + bias


@pytest.mark.parametrize("mode", ["parallel", "recursive", "hard"])
def test_matches_the_recursion_over_the_queries(mode):
    layer, scores = general(mode)
    expected = np.stack([textbook(score, mode == "hard") for score in scores])
    context, weights = layer(QUERY, VALUE, return_attention_scores=True)
    np.testing.assert_allclose(weights, expected, atol=1e-9)
    np.testing.assert_allclose(context, expected @ VALUE, atol=1e-9)
    assert set(np.unique(weights)) == {0, 1} or mode != "hard"


def test_hard_attention_trains_on_expectations_and_noise_is_added_only_in_training():
    layer, scores = general("hard", noise=0.0)
    expected = np.stack([textbook(score) for score in scores])
    _, weights = layer(QUERY, VALUE, return_attention_scores=True, training=True)
    np.testing.assert_allclose(weights, expected, atol=1e-9)
    noisy, _ = general("parallel", noise=1.0, seed=1)
    (_, one), (_, other) = (noisy(QUERY, VALUE, return_attention_scores=True, training=True) for _ in range(2))
    assert np.abs(one - other).max() > 0.01 and np.abs(one - expected).max() > 0.01
    np.testing.assert_allclose(noisy(QUERY, VALUE, return_attention_scores=True)[1], expected, atol=1e-9)


def test_a_masked_query_does_not_move_the_alignment():
    layer, _ = general("parallel")
    holes = np.insert(QUERY, [0, 2], np.nan, axis=1)
    mask = np.array([[False, True, True, False, True, True]] * 3)
    assert np.isnan(holes[:, ~mask[0]]).all()
    expected = layer(QUERY, VALUE, value_mask=VALUE_MASK)
    found = layer(holes, VALUE, query_mask=mask, value_mask=VALUE_MASK)
    np.testing.assert_allclose(found.numpy()[:, mask[0]], expected, atol=1e-9)
    assert not found.numpy()[:, ~mask[0]].any()


def test_the_score_is_an_inner_layer():
    layer = MonotonicAttention(units=8, normalize=True)
    layer.build(QUERY.shape, VALUE.shape)
    assert isinstance(layer.scoring, AdditiveAttention)
    names = ["score_bias", "scale", "gain", "bias", "query_kernel", "key_kernel"]
    assert [weight.name for weight in layer.weights] == names
    layer = MonotonicAttention("general", normalize=True, score_bias=-2.0)
    layer.build(QUERY.shape, VALUE.shape)
    assert isinstance(layer.scoring, GeneralAttention)
    assert [weight.name for weight in layer.weights] == ["score_bias", "scale", "key_kernel"]
    assert layer.get_weights()[0] == -2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": "dot"}, "`score` must be one of additive, general. Received: 'dot'"),
        ({"units": 8, "mode": "soft"}, "`mode` must be one of parallel, recursive, hard. Received: 'soft'"),
        ({}, "`units` is required only by the additive score. Received: None with 'additive'"),
        ({"score": "general", "units": 8}, "Received: 8 with 'general'"),
        ({"units": 8, "noise": -1.0}, "`noise` must be at least 0. Received: -1.0"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        MonotonicAttention(**arguments)
