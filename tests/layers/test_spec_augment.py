"""Tests of SpecAugment: number, width and position of the masks, in training only."""

import numpy as np
import pytest

from keras_dl.layers import SpecAugment

from .check_layer import check_layer

ONES = np.ones((400, 30, 12), "float32")


def run_lengths(hidden):
    """Returns the lengths of the runs of True in each row of a bool `[B, N]`."""
    edges = np.diff(np.pad(hidden, [[0, 0], [1, 1]]).astype(int), axis=1)
    return [np.flatnonzero(row < 0) - np.flatnonzero(row > 0) for row in edges]


def test_behaves_as_a_sequence_layer(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(2, 9, 4))
    check_layer(SpecAugment, {"frequency_masks": 1, "time_width": 3, "seed": 3}, inputs, tmp_path)


def test_a_time_mask_has_every_width_and_position():
    layer = SpecAugment(frequency_masks=0, time_masks=1, time_width=5, time_share=1.0, seed=0)
    hidden = layer(ONES, training=True).numpy() == 0
    assert (hidden.any(axis=2) == hidden.all(axis=2)).all()
    hidden = hidden.all(axis=2)
    widths = [sum(row) for row in run_lengths(hidden)]
    counts = np.bincount(widths, minlength=6)
    assert len(counts) == 6 and (counts > 400 / 6 / 2).all()
    assert max(map(len, run_lengths(hidden))) == 1
    assert hidden[:, 0].any() and hidden[:, -1].any()


def test_a_frequency_mask_covers_all_frames():
    layer = SpecAugment(frequency_masks=1, frequency_width=3, time_masks=0, seed=0)
    hidden = layer(ONES, training=True).numpy() == 0
    assert (hidden.any(axis=1) == hidden.all(axis=1)).all()
    widths = [sum(row) for row in run_lengths(hidden.all(axis=1))]
    assert set(widths) == {0, 1, 2, 3}


def test_several_masks_change_nothing_else():
    inputs = np.random.default_rng(0).normal(size=(100, 30, 12)).astype("float32")
    found = SpecAugment(2, 2, 2, 4, time_share=1.0, seed=0)(inputs, training=True).numpy()
    np.testing.assert_array_equal(found[found != 0], inputs[found != 0])
    rows = (found == 0).all(axis=2)
    assert max(map(len, run_lengths(rows))) == 2 and rows.sum(axis=1).max() <= 8


def test_the_maximum_width_depends_on_the_length_of_the_row():
    mask = np.repeat(np.arange(30)[None] < np.array([[10], [30]]), 200, axis=0)
    layer = SpecAugment(frequency_masks=0, time_masks=1, time_width=20, time_share=0.3, seed=0)
    hidden = (layer(ONES, training=True, mask=mask).numpy() == 0).all(axis=2) & mask
    assert hidden[:200].sum(axis=1).max() == 3 and hidden[200:].sum(axis=1).max() == 9
    assert 1.2 < hidden[:200].sum(axis=1).mean() < 1.8  # uniform from 0 to 3, outside of the padding
    assert hidden[:200, 9].any()


def test_rows_and_calls_differ_but_are_reproducible():
    first = SpecAugment(seed=5)
    one, two = first(ONES, training=True).numpy(), first(ONES, training=True).numpy()
    assert (one != two).any() and (one[0] != one[1]).any()
    np.testing.assert_array_equal(SpecAugment(seed=5)(ONES, training=True), one)


def test_a_mask_may_cover_everything():
    found = SpecAugment(1, 50, 1, 50, time_share=1.0, seed=0)(ONES[:, :2, :3], training=True).numpy()
    assert np.isfinite(found).all() and (found.sum(axis=(1, 2)) == 0).any()


def test_has_no_effect_outside_of_training():
    np.testing.assert_array_equal(SpecAugment()(ONES), ONES)


@pytest.mark.parametrize("arguments", [{"time_masks": -1}, {"frequency_width": -1}, {"time_share": 1.5}])
def test_invalid_numbers_raise_an_error(arguments):
    with pytest.raises(ValueError, match="must be at least 0 and `time_share` in .0, 1.. Received"):
        SpecAugment(**arguments)
