"""Ragged labels and logits are accepted by losses and decoders."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops import ctc

LENGTHS = np.array([5, 3])
DENSE = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
RAGGED = tf.RaggedTensor.from_tensor(DENSE, lengths=LENGTHS)
LABELS = tf.ragged.constant([[1, 2], [1]])
PADDED = np.array([[1, 2], [1, -1]])

FUNCTIONS = {
    "greedy_decode": lambda logits, **options: ctc.greedy_decode(logits, **options),
    "beam_search_decode": lambda logits, **options: ctc.beam_search_decode(logits, 3, **options),
    "ctc_loss": lambda logits, **options: [ctc.ctc_loss(LABELS if not options else PADDED, logits, **options)],
    "align": lambda logits, **options: ctc.align(LABELS if not options else PADDED, logits, **options),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ragged_logits_are_those_of_their_lengths(name):
    found, expected = FUNCTIONS[name](RAGGED), FUNCTIONS[name](DENSE, logit_length=LENGTHS)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
