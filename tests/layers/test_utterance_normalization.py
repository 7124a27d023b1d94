"""Tests of UtteranceNormalization: values in NumPy, and the general checks."""

import numpy as np
import pytest

from keras_dl.layers import UtteranceNormalization

from .check_layer import check_layer

FRAMES = np.random.default_rng(0).normal(-8, 3, (2, 9, 4)).astype("float32")


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("per_feature", [False, True])
def test_behaves_as_a_sequence_layer(running, per_feature, tmp_path):
    arguments = {"running": running, "per_feature": per_feature, "prior_frames": 5.0, "epsilon": 0.1}
    compiled = per_feature == running  # one graph of each kind
    check_layer(UtteranceNormalization, arguments, FRAMES / 10, tmp_path, half_tolerance=0.1, compiled=compiled)


def test_the_result_has_mean_zero_and_variance_one():
    found = UtteranceNormalization(epsilon=1e-6)(FRAMES).numpy()
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=1), 1, atol=1e-5)


def test_matches_the_formula():
    found = UtteranceNormalization(epsilon=1.0)(np.array([[[1.0], [5.0], [9.0]]]))
    np.testing.assert_allclose(found[0, :, 0], np.array([-4, 0, 4]) / np.sqrt(32 / 3 + 1), rtol=1e-6)


@pytest.mark.parametrize("running", [False, True])
def test_one_mean_and_variance_for_all_features(running):
    """The statistics are shared, so the order of the features within a frame has no effect."""
    layer = UtteranceNormalization(per_feature=False, running=running, epsilon=1e-6)
    found = layer(FRAMES).numpy()
    steps = np.diff(FRAMES[0, 5]) / np.diff(found[0, 5])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)  # a single scale keeps the shape
    np.testing.assert_allclose(layer(FRAMES[..., ::-1]), found[..., ::-1], atol=1e-5)
    np.testing.assert_allclose(layer(FRAMES * 1), found, atol=1e-6)
    if not running:
        np.testing.assert_allclose(found.mean(axis=(1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(found.std(axis=(1, 2)), 1, atol=1e-5)


def test_running_matches_the_formula():
    """The prior counts as 2 frames with mean 3 and variance 4."""
    layer = UtteranceNormalization(running=True, prior_frames=2.0, epsilon=1e-9)
    layer.build((None, None, 1))
    layer.set_weights([np.array([3.0]), np.log([4.0])])
    expected, seen = [], []
    for value in (1.0, 5.0, 9.0):
        seen.append(value)
        count = 2 + len(seen)
        mean = (2 * 3 + sum(seen)) / count
        square = (2 * (4 + 3**2) + sum(v * v for v in seen)) / count
        expected.append((value - mean) / np.sqrt(square - mean**2))
    np.testing.assert_allclose(layer(np.array([[[1.0], [5.0], [9.0]]]))[0, :, 0], expected, rtol=1e-5)


def test_running_does_not_depend_on_later_frames():
    layer = UtteranceNormalization(running=True)
    whole = layer(FRAMES)
    for frames in range(1, 9):
        np.testing.assert_allclose(layer(FRAMES[:, :frames]), whole[:, :frames], atol=1e-5)
    assert np.abs(UtteranceNormalization()(FRAMES)[:, :4] - UtteranceNormalization()(FRAMES[:, :4])).max() > 0.1


def test_running_is_precise_with_a_mean_far_from_zero():
    layer = UtteranceNormalization(running=True)
    layer.build((None, None, 4))
    layer.set_weights([np.full(4, 1000.0), np.zeros(4)])
    far = layer(FRAMES / 10 + 1000)
    layer.set_weights([np.zeros(4), np.zeros(4)])
    np.testing.assert_allclose(far, layer(FRAMES / 10), atol=2e-3)


def test_padding_becomes_zeros():
    mask = np.arange(9)[None] < [[9], [4]]
    found = UtteranceNormalization()(np.where(mask[..., None], FRAMES, np.nan), mask=mask).numpy()
    assert (found[1, 4:] == 0).all() and np.isfinite(found).all()
    np.testing.assert_allclose(found[1, :4], UtteranceNormalization()(FRAMES[1:, :4])[0], atol=1e-6)
    assert (UtteranceNormalization()(FRAMES, mask=mask & False).numpy() == 0).all()


@pytest.mark.parametrize("arguments", [{"prior_frames": 0.0}, {"epsilon": -1.0}])
def test_invalid_arguments_raise_an_error(arguments):
    with pytest.raises(ValueError, match="`prior_frames` and `epsilon` must be above 0. Received"):
        UtteranceNormalization(**arguments)
