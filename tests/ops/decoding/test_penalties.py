import numpy as np
import pytest

from keras_dl.ops.decoding import coverage_penalty, length_penalty


def test_length_penalty():
    np.testing.assert_allclose(length_penalty([0, 1, 7], 0.5), [(5 / 6) ** 0.5, 1.0, 2**0.5], rtol=1e-6)
    np.testing.assert_array_equal(length_penalty([0, 1, 7], 0.0), 1.0)
    np.testing.assert_allclose(length_penalty([0, 7], -1.0), [1.2, 0.5], rtol=1e-6)


def test_coverage_penalty():
    attention = [[0.5, 0.25, 1.5], [1.0, 2.0, 1.0]]
    np.testing.assert_allclose(coverage_penalty(attention, 2.0), [2 * np.log(0.125), 0.0], rtol=1e-6)
    np.testing.assert_allclose(coverage_penalty(attention, 1.0, [True, False, True]), [np.log(0.5), 0.0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_missing_attention_has_a_finite_penalty(dtype):
    penalty = coverage_penalty(np.array([0.0, 1.0], dtype), 1.0)
    assert penalty.dtype == "float32" and np.isclose(penalty, np.log(1e-6))


def test_nan_at_padding_has_no_effect():
    np.testing.assert_array_equal(coverage_penalty([1.0, np.nan], 1.0, [True, False]), 0.0)
