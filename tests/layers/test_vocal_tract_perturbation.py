"""Tests of VocalTractPerturbation: shifted tones, in training only."""

import numpy as np
import pytest

from keras_dl.layers import LogMel, VocalTractPerturbation

from .check_layer import check_layer


def tones(hertz):
    """Returns log-mel frames of a tone for each frequency, `[B, 1, 40]`."""
    sound = 0.3 * np.sin(2 * np.pi * np.asarray(hertz)[:, None] / 8000 * np.arange(800))
    return LogMel()(sound).numpy()[:, 4:5]


def test_behaves_as_a_sequence_layer(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(2, 9, 40))
    check_layer(VocalTractPerturbation, {"largest": 1.3, "seed": 3}, inputs, tmp_path)


def test_a_tone_is_shifted_by_the_factor():
    """The peak of a stretched tone is that of a tone whose frequency differs by at most the largest factor."""
    candidates = np.geomspace(500, 2000, 300)
    peaks = tones(candidates)[:, 0].argmax(axis=1)
    stretched = VocalTractPerturbation(1.5, seed=0)(np.repeat(tones([1000]), 200, axis=0), training=True).numpy()
    found = stretched[:, 0].argmax(axis=1)
    lowest, highest = peaks[np.searchsorted(candidates, 1000 / 1.5)], peaks[np.searchsorted(candidates, 1500)]
    assert found.min() in (lowest - 1, lowest, lowest + 1) and found.max() in (highest - 1, highest, highest + 1)
    assert len(set(found)) > 8


def test_two_tones_keep_their_ratio():
    low, high = tones([700]), tones([1400])
    step = 1127 * np.log((1 + 4000 / 700) / (1 + 60 / 700)) / 41
    hertz = 700 * np.expm1((1127 * np.log1p(60 / 700) + step * np.arange(1, 41)) / 1127)
    layer = VocalTractPerturbation(1.3, seed=1)
    both = np.concatenate([low, high], axis=1)  # two frames of one row share a factor
    found = layer(np.repeat(both, 50, axis=0), training=True).numpy().argmax(axis=2)
    ratios = hertz[found[:, 1]] / hertz[found[:, 0]]
    assert (np.abs(ratios / (hertz[high.argmax()] / hertz[low.argmax()]) - 1) < 0.15).all()


def test_a_factor_of_one_has_no_effect():
    inputs = np.random.default_rng(0).normal(size=(3, 5, 40)).astype("float32")
    np.testing.assert_allclose(VocalTractPerturbation(1.0)(inputs, training=True), inputs, atol=1e-3)
    np.testing.assert_array_equal(VocalTractPerturbation(1.5)(inputs), inputs)


def test_a_flat_spectrum_stays_flat():
    found = VocalTractPerturbation(1.5, seed=0)(np.full((50, 2, 40), -3.0, "float32"), training=True)
    np.testing.assert_allclose(found, -3, rtol=1e-5)


def test_rows_differ_but_are_reproducible():
    inputs = np.random.default_rng(0).normal(size=(1, 5, 40)).astype("float32").repeat(3, axis=0)
    found = VocalTractPerturbation(seed=2)(inputs, training=True).numpy()
    assert (found[0] != found[1]).any()
    np.testing.assert_array_equal(VocalTractPerturbation(seed=2)(inputs, training=True), found)


def test_a_factor_below_one_raises_an_error():
    with pytest.raises(ValueError, match="`largest` must be at least 1. Received: 0.9"):
        VocalTractPerturbation(0.9)
