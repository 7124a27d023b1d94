"""Masks and ranks that several layers check."""

import numpy as np
import pytest

from keras_dl import layers


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda: layers.UtteranceNormalization(), 3),
        (lambda: layers.SpecAugment(), 3),
        (lambda: layers.VocalTractPerturbation(), 3),
        (lambda: layers.LogMel(), 2),
    ],
)
def test_inputs_of_other_ranks_are_refused(make, axes):
    for shape in ((6,), (2, 6), (2, 6, 4), (2, 6, 4, 1)):
        if len(shape) != axes:
            with pytest.raises(ValueError, match=f"expected ndim={axes}, found ndim={len(shape)}"):
                make()(np.ones(shape, "float32"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.AttentionPooling(2),
        lambda: layers.CTCOutput(2),
        lambda: layers.ESN(12, fan_in=2),
        lambda: layers.SpecAugment(),
        lambda: layers.UtteranceNormalization(),
        lambda: layers.VocalTractPerturbation(),
    ],
)
def test_a_mask_of_another_shape_is_refused(make):
    x = np.ones((2, 6, 4), "float32")
    for shape in ((2, 5), (1, 6)):
        with pytest.raises(ValueError, match=r"Expected `mask` of shape \(2, 6\)\. Received: "):
            make()(x, mask=np.ones(shape, bool))
