"""RidgeStatistics, compared to lstsq and scikit-learn, for any parts and large means."""

import numpy as np
import pytest

from keras_dl.ops.ridge import RidgeStatistics

generator = np.random.default_rng(0)
FEATURES = generator.normal(size=(200, 7)) @ generator.normal(size=(7, 7)) + 3
TARGETS = np.sin(FEATURES[:, :2]) + generator.normal(size=(200, 2)) - 5
WEIGHTS = generator.integers(0, 4, 200)


def textbook(features, targets, alpha, weights=None):
    weights = np.ones(len(features)) if weights is None else weights
    means = np.average(features, 0, weights), np.average(targets, 0, weights)
    features, targets = features - means[0], targets - means[1]
    gram = features.T @ (features * weights[:, None]) + alpha * np.eye(features.shape[1])
    kernel = np.linalg.solve(gram, features.T @ (targets * weights[:, None]))
    return kernel, means[1] - means[0] @ kernel


def seen(*parts):
    statistics = RidgeStatistics(parts[0][0].shape[1], parts[0][1].shape[1])
    for part in parts:
        statistics.add(*part)
    return statistics


@pytest.mark.parametrize("features", [1, 2, 7])
def test_every_alpha_matches_ridge_regression(features):
    alphas = [0.0, 1e-3, 1.0, 100.0]
    kernels, biases = seen((FEATURES[:, :features], TARGETS)).solve(alphas)
    for kernel, bias, alpha in zip(kernels, biases, alphas, strict=True):
        expected = textbook(FEATURES[:, :features], TARGETS, alpha)
        np.testing.assert_allclose(kernel, expected[0], atol=1e-11)
        np.testing.assert_allclose(bias, expected[1], atol=1e-11)


def test_agrees_with_lstsq_and_scikit_learn():
    (kernel,), (bias,) = seen((FEATURES, TARGETS)).solve([0.0])
    wide = np.column_stack([FEATURES, np.ones(200)])
    np.testing.assert_allclose(np.vstack([kernel, bias]), np.linalg.lstsq(wide, TARGETS)[0], atol=1e-10)
    linear_model = pytest.importorskip("sklearn.linear_model")
    (kernel,), (bias,) = seen((FEATURES, TARGETS, WEIGHTS)).solve([2.0])
    model = linear_model.Ridge(alpha=2.0).fit(FEATURES, TARGETS, sample_weight=WEIGHTS)
    np.testing.assert_allclose(kernel.T, model.coef_, atol=1e-10)
    np.testing.assert_allclose(bias, model.intercept_, atol=1e-10)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_merged_parts_equal_the_whole(weights):
    whole = seen((FEATURES, TARGETS, weights))
    parts = RidgeStatistics(7, 2)
    for rows in np.split(np.arange(200), [1, 1, 40, 150]):
        part = seen((FEATURES[rows], TARGETS[rows], None if weights is None else weights[rows]))
        parts.merge(part)
    assert parts.count == whole.count
    for name in ("feature_means", "target_means", "gram", "products", "target_squares"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-11)


def test_a_weight_equals_repetitions():
    weighted = seen((FEATURES, TARGETS, WEIGHTS)).solve([0.5])
    copied = seen((np.repeat(FEATURES, WEIGHTS, 0), np.repeat(TARGETS, WEIGHTS, 0))).solve([0.5])
    for found, expected in zip(weighted, copied, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-11)


def test_large_means_do_not_matter():
    (near,), _ = seen((FEATURES, TARGETS)).solve([1e-6])
    parts = [(FEATURES[rows] + 1e6, TARGETS[rows] - 1e6) for rows in np.split(np.arange(200), 8)]
    (far,), _ = seen(*parts).solve([1e-6])
    np.testing.assert_allclose(far, near, atol=1e-7)


def test_float32_rows_are_summed_in_float64():
    single = [array.astype("float32") for array in (FEATURES, TARGETS)]
    found, expected = seen(single), seen([array.astype("float64") for array in single])
    np.testing.assert_array_equal(found.gram, expected.gram)


def test_the_error_matches_the_rows():
    statistics = seen((FEATURES, TARGETS, WEIGHTS))
    (kernel,), (bias,) = statistics.solve([3.0])
    errors = np.square(FEATURES @ kernel + bias - TARGETS).mean(1)
    assert statistics.mean_squared_error(kernel) == pytest.approx(np.average(errors, weights=WEIGHTS), rel=1e-10)


def test_a_singular_gram_matrix_requires_a_ridge():
    double = np.column_stack([FEATURES, FEATURES[:, 0]])
    for features in (double, FEATURES[:5], np.ones((5, 1))):
        statistics = seen((features, TARGETS[: len(features)]))
        with pytest.raises(ValueError, match="singular"):
            statistics.solve([1.0, 0.0])
        kernels, _ = statistics.solve([1e-14, 1.0])  # also below the rounding errors
        assert np.isfinite(kernels).all()
    (kernel,), _ = seen((double, TARGETS)).solve([1e-6])
    np.testing.assert_allclose(kernel[0], kernel[7], atol=1e-6)


def test_solving_without_rows_raises():
    statistics = RidgeStatistics(2, 1)
    statistics.add(np.zeros((0, 2)), np.zeros((0, 1)))
    statistics.add(np.ones((1, 2)), np.ones((1, 1)), [0.0])
    statistics.merge(RidgeStatistics(2, 1))
    with pytest.raises(ValueError, match="at least one row"):
        statistics.solve([1.0])
