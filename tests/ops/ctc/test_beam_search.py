import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import beam_search_decode

from .textbook import prefix_beam_search


@functools.cache
def graph_of(classes, **options):
    """The decoder in a graph of unknown shape, traced once."""
    signature = [tf.TensorSpec([None, None, classes], tf.float64), tf.TensorSpec([None], tf.int32)]

    def decode(logits, lengths):
        return beam_search_decode(logits, logit_length=lengths, **options)

    return tf.function(decode, input_signature=signature, autograph=False)


def assert_equal_to_textbook(best, row, expected, tolerance=1e-9):
    """The hypotheses of a row are those of the textbook; behind them stand rows without tokens."""
    for place in range(best.tokens.shape[1]):
        prefix, score = expected[place] if place < len(expected) else ((), -1e30)
        tokens = best.tokens[row, place].numpy().tolist()
        assert tokens == [*prefix, *[-1] * (len(tokens) - len(prefix))]
        np.testing.assert_allclose(best.score[row, place], score, rtol=max(tolerance, 1e-7), atol=tolerance)


@pytest.mark.parametrize(("classes", "width", "blank"), [(1, 3, 0), (2, 30, 1), (3, 2, 0), (6, 40, 5), (24, 6, 7)])
def test_hypotheses_are_those_of_the_textbook(classes, width, blank):
    """Flat, normal and peaky posteriors, any length, fewer prefixes than the beam holds; NaN in padding."""
    generator = np.random.default_rng(classes)
    decode = graph_of(classes, beam_width=width, top_paths=width, blank_index=blank)
    for scale in (0.1, 1, 1, 20):
        logits = generator.normal(0, scale, (6, 12, classes))
        lengths = np.array([12, 0, 1, 3, 7, 12], "int32")
        padded = np.where(np.arange(12)[:, None] < lengths[:, None, None], logits, np.nan)
        best = decode(padded, lengths)
        np.testing.assert_array_equal(best.score, best.log_probability)
        for row, length in enumerate(lengths):
            assert_equal_to_textbook(best, row, prefix_beam_search(logits[row, :length], width, blank))
