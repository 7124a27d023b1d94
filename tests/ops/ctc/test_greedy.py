import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import collapse, greedy_decode

from . import textbook
from .textbook import log_softmax


def spans(path, blank):
    """Returns the first frame and one past the last frame of every token of a path."""
    runs = [list(run) for _, run in itertools.groupby(range(len(path)), path.__getitem__)]
    return [(run[0], run[-1] + 1) for run in runs if path[run[0]] != blank]


def test_greedy_decoding_collapses_the_best_path():
    generator = np.random.default_rng(6)
    for _ in range(40):
        batch, frames, classes = generator.integers(1, 5), generator.integers(1, 12), generator.integers(2, 5)
        blank = int(generator.integers(classes))
        # Integers from 0 to 4 times 3 give many repeats; small noise prevents ties.
        logits = generator.integers(0, 5, (batch, frames, classes)) * 3 + generator.uniform(0, 0.1, (batch, 1, classes))
        lengths = generator.integers(0, frames + 1, batch)
        padded = logits.astype("float32")
        padded[np.arange(frames) >= lengths[:, None]] = np.nan
        decoded = greedy_decode(padded, lengths, blank_index=blank)
        tokens, score, start, end, confidence = (tensor.numpy() for tensor in decoded)
        assert [tensor.dtype for tensor in decoded] == ["int32", "float32", "int32", "int32", "float32"]
        assert tokens.shape == start.shape == end.shape == confidence.shape == (batch, frames)
        for row in range(batch):
            logp = log_softmax(logits[row, : lengths[row]]) if lengths[row] else np.zeros((0, classes))
            path = logp.argmax(axis=-1).tolist()
            expected, where = textbook.collapse(path, blank), spans(path, blank)
            filling = [-1] * (frames - len(expected))
            assert tokens[row].tolist() == expected + filling
            assert start[row].tolist() == [first for first, _ in where] + filling
            assert end[row].tolist() == [last for _, last in where] + filling
            runs = zip(expected, where, strict=True)
            certain = [np.exp(logp[first:last, token]).mean() for token, (first, last) in runs]
            np.testing.assert_allclose(confidence[row], certain + [0] * len(filling), rtol=1e-5)
            np.testing.assert_allclose(score[row], logp.max(axis=-1).sum(), rtol=1e-4, atol=1e-4)
        given = collapse(np.where(np.arange(frames) < lengths[:, None], logits.argmax(axis=2), -1), blank)
        np.testing.assert_array_equal(given, tokens)
        np.testing.assert_array_equal(collapse(logits.argmax(axis=2), blank, lengths), tokens)


def test_greedy_decoding_without_lengths_uses_all_frames():
    path = [[2, 2, 0, 2, 1, 1, 0]]
    tokens, *_ = greedy_decode(np.eye(3, dtype="float32")[path] * 9)
    assert tokens.numpy().tolist() == [[2, 2, 1, -1, -1, -1, -1]]


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (0, 0, 3)])
def test_greedy_decoding_of_empty_inputs(shape):
    decoded = greedy_decode(np.zeros(shape, "float32"))
    assert [tuple(tensor.shape) for tensor in decoded] == [shape[:2], shape[:1], *[shape[:2]] * 3]
    assert decoded.log_probability.numpy().tolist() == [0.0] * shape[0]
    assert collapse(np.zeros(shape[:2])).shape == shape[:2]


@pytest.mark.parametrize("jit", [False, True])
def test_a_graph_with_unknown_shapes_gives_the_same_decoding(jit):
    specs = [tf.TensorSpec([None, None, None], tf.float32), tf.TensorSpec([None], tf.int32)]
    graph = tf.function(greedy_decode, input_signature=specs, jit_compile=jit, autograph=False)
    logits = np.random.default_rng(7).normal(size=(4, 9, 3)).astype("float32")
    lengths = np.array([9, 4, 0, 1], "int32")
    for got, expected in zip(graph(logits, lengths), greedy_decode(logits, lengths), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "wide"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_greedy_decoding_uses_at_least_float32(dtype, wide):
    logits = tf.cast(np.random.default_rng(8).normal(0, 3, (2, 300, 4)), dtype)
    decoded = greedy_decode(logits)
    expected = log_softmax(tf.cast(logits, tf.float64)).max(axis=-1).sum(axis=-1)
    assert decoded.log_probability.dtype == decoded.confidence.dtype == wide
    np.testing.assert_allclose(decoded.log_probability, expected, rtol=1e-5 if wide == "float32" else 1e-12)


def test_invalid_inputs_raise():
    logits = np.zeros((2, 3, 4), "float32")
    with pytest.raises(ValueError, match="from 0 to 3. Received in row 1: 4"):
        greedy_decode(logits, [3, 4])
    logits[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="in row 1: NaN or infinity in frame 2"):
        greedy_decode(logits)
    assert greedy_decode(logits, [3, 2]).log_probability.shape == (2,)
