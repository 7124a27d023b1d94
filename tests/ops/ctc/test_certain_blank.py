import keras
import numpy as np
import pytest

from keras_dl.ops.ctc import certain_blank

from .textbook import log_softmax


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("blank", [0, 1, 2])
def test_certain_blank_works_in_every_precision(dtype, blank):
    logits = keras.ops.cast(np.random.default_rng(8).normal(0, 50, (2, 3, 3)), dtype)
    mask = np.array([[True, False, True], [False, True, False]])
    changed = certain_blank(logits, mask, blank)
    assert keras.backend.standardize_dtype(changed.dtype) == dtype
    wide, before = (np.asarray(keras.ops.cast(tensor, "float32")) for tensor in (changed, logits))
    np.testing.assert_array_equal(wide[mask], before[mask])
    assert np.isfinite(wide).all()
    np.testing.assert_array_equal(np.exp(log_softmax(wide[~mask])), np.tile(np.eye(3)[blank], (3, 1)))
    # Also in the original precision: the blank has log probability 0 and no difference overflows.
    narrow = np.asarray(keras.ops.cast(keras.ops.log_softmax(changed), "float32"))[~mask]
    np.testing.assert_array_equal(narrow[:, blank], 0)
    assert not np.isnan(narrow).any()
