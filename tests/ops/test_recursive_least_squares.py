"""Recursive least squares, compared to ridge regression and weighted least squares."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.recursive_least_squares import recursive_least_squares

generator = np.random.default_rng(0)
FEATURES, TARGETS = generator.normal(size=(40, 5)), generator.normal(size=(40, 2))


def learnt(features, targets, at_once, alpha, forgetting=1.0):
    kernel, covariance = np.zeros((5, 2)), np.eye(5) / alpha
    for first in range(0, len(features), at_once):
        now = slice(first, first + at_once)
        kernel, covariance = recursive_least_squares(kernel, covariance, features[now], targets[now], forgetting)
    return kernel, covariance


@pytest.mark.parametrize("at_once", [1, 4, 40])
def test_matches_ridge_regression(at_once):
    kernel, covariance = learnt(FEATURES, TARGETS, at_once, 0.3)
    inverse = np.linalg.inv(FEATURES.T @ FEATURES + 0.3 * np.eye(5))
    np.testing.assert_allclose(covariance, inverse, atol=1e-12)
    np.testing.assert_allclose(kernel, inverse @ FEATURES.T @ TARGETS, atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 4])
def test_old_rows_are_forgotten(at_once):
    kernel, _ = learnt(FEATURES, TARGETS, at_once, 0.3, forgetting=0.9)
    ages = np.repeat(np.arange(40 // at_once)[::-1], at_once)
    weighted = FEATURES.T * 0.9**ages
    gram = weighted @ FEATURES + 0.3 * 0.9 ** (40 // at_once) * np.eye(5)
    np.testing.assert_allclose(kernel, np.linalg.solve(gram, weighted @ TARGETS), atol=1e-11)


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_of_zeros_have_no_effect(rows):
    kernel, covariance = learnt(FEATURES, TARGETS, 4, 0.3)
    same = recursive_least_squares(kernel, covariance, np.zeros((rows, 5)), np.ones((rows, 2)))
    np.testing.assert_allclose(same[0], kernel, atol=1e-15)
    np.testing.assert_allclose(same[1], covariance, atol=1e-15)


def test_several_rows_under_xla():
    compiled = tf.function(recursive_least_squares, jit_compile=True)
    start = tf.zeros((5, 2), tf.float64), tf.eye(5, dtype=tf.float64)
    found = compiled(*start, tf.constant(FEATURES[:3]), tf.constant(TARGETS[:3]))
    for value, expected in zip(found, learnt(FEATURES[:3], TARGETS[:3], 3, 1.0), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-12)
