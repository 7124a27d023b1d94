"""Beam search: early stopping, unfinished sequences and arguments."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.decoding import beam_search, greedy_search

from .toy_decoders import Toy


def counted(probabilities, memory=None, **arguments):
    """Searches with the model `probabilities[time][token]`; returns the result and the number of steps."""
    steps = []

    def step(tokens, time, state, memory):
        steps.append(int(time))
        time = min(int(time), len(probabilities) - 1)
        return tf.math.log([probabilities[time]] * len(tokens)), state, None

    decoded = beam_search(
        step, (), tf.zeros([1]) if memory is None else memory, start=0, end=0, beam_width=2, **arguments
    )
    return decoded, len(steps)


def test_it_stops_when_no_open_hypothesis_can_win():
    # One label costs more than an immediate end.
    decoded, steps = counted([[0.7, 0.3]], max_length=50)
    assert steps == 1 and decoded.tokens.shape == [1, 1, 50] and decoded.finished.numpy().all()
    # The second best sequence is one label and the end, 0.3 * 0.7 = 0.21; the third would be 0.063.
    decoded, steps = counted([[0.7, 0.3]], max_length=50, top_paths=2)
    assert steps == 2 and decoded.lengths.numpy().tolist() == [[0, 1]]
    np.testing.assert_allclose(tf.exp(decoded.score), [[0.7, 0.21]], rtol=1e-5)


def test_it_does_not_stop_while_a_long_sequence_can_win():
    """The scores are -0.51 / 0.83 without labels, -0.92 / 1 for one, but -0.92 / 2 for seven."""
    probabilities = [[0.6, 0.4]] + [[0.0, 1.0]] * 6 + [[1.0, 0.0]]
    decoded, steps = counted(probabilities, max_length=40, length_penalty=1.0)
    assert decoded.lengths.numpy() == 7 and 8 <= steps < 40
    np.testing.assert_allclose(decoded.score, [[np.log(0.4) / 2]], rtol=1e-5)


def test_it_does_not_stop_while_a_short_sequence_can_win():
    """A negative penalty: -0.80 / 1.2 = -0.67 without labels, -0.60 for one; the divisor decreases later."""
    decoded, steps = counted([[0.45, 0.55], [1.0, 0.0]], max_length=7, length_penalty=-1.0)
    assert decoded.lengths.numpy() == 1 and steps == 2
    np.testing.assert_allclose(decoded.score, [[np.log(0.55)]], rtol=1e-5)


def test_it_stops_without_open_hypotheses():
    decoded, steps = counted([[1.0, 0.0]], max_length=50, top_paths=2)
    assert steps == 1 and decoded.finished.numpy().tolist() == [[True, False]]


def test_unfinished_sequences_fill_the_remaining_places():
    # End 0.1, labels 0.6 and 0.3: within two steps, the end is never among the best two.
    decoded, steps = counted([[0.1, 0.6, 0.3]], max_length=2, top_paths=2)
    assert steps == 2 and decoded.tokens.numpy().tolist() == [[[1, 1], [1, 2]]]
    assert not decoded.finished.numpy().any()
    np.testing.assert_allclose(tf.exp(decoded.score), [[0.36, 0.18]], rtol=1e-5)
    # One is finished, 0.3; the best unfinished one, 0.6 * 0.6, comes first.
    decoded, _ = counted([[0.3, 0.6, 0.1], [0.0, 0.6, 0.4]], max_length=2, top_paths=2)
    assert decoded.tokens.numpy().tolist() == [[[1, 1], [-1, -1]]]
    assert decoded.finished.numpy().tolist() == [[False, True]]
    # A single place is taken by the finished one.
    decoded, _ = counted([[0.3, 0.6, 0.1], [0.0, 0.6, 0.4]], max_length=2)
    assert decoded.tokens.numpy().tolist() == [[[-1, -1]]] and decoded.finished.numpy().all()


@pytest.mark.parametrize("min_length", [0, 2, tf.constant(2), 9])
def test_min_length(min_length):
    decoded, _ = counted([[0.9, 0.1]], max_length=4, min_length=min_length)
    assert decoded.lengths.numpy() == min(int(min_length), 4) and decoded.finished.numpy() == (min_length < 4)
    np.testing.assert_allclose(
        tf.exp(decoded.score), [[0.1 ** min(int(min_length), 4) * (0.9 if min_length < 4 else 1)]], rtol=1e-5
    )


def test_no_steps_give_the_empty_sequence():
    toy = Toy(3)
    decoded = beam_search(toy.step, toy.state, toy.memory, start=2, end=1, max_length=0, top_paths=2)
    assert decoded.score.numpy().tolist() == [[0.0, -np.inf]] * 3 and not decoded.finished.numpy().any()
    assert (
        greedy_search(toy.step, toy.state, toy.memory, start=2, end=1, max_length=0).score.numpy().tolist()
        == [[0.0]] * 3
    )


@pytest.mark.parametrize(
    ("dtype", "search", "options"),
    [("float16", beam_search, dict(coverage_penalty=1.0)), ("bfloat16", greedy_search, {})],
)
def test_sums_are_float32(dtype, search, options):
    table = tf.cast([[0.0, 1.0, 0.999]], dtype)  # in float16, a sum of 300 of these has only two digits

    def step(tokens, time, state, memory):
        alignment = tf.cast(tf.repeat([[0.25, 0.75]], tf.size(tokens), axis=0), dtype)
        return tf.repeat(table, tf.size(tokens), axis=0), state, alignment

    logits = np.float64(table[0].numpy().astype("float64"))
    expected = 300 * (logits[1] - np.log(np.exp(logits).sum()))
    search = tf.function(search, autograph=False)
    decoded = search(step, (), tf.zeros([2]), start=0, end=0, max_length=300, min_length=300, **options)
    np.testing.assert_allclose(decoded.log_probability, [[expected]] * 2, rtol=1e-5)
    assert decoded.score.dtype == decoded.alignment.dtype == tf.float32
    np.testing.assert_allclose(decoded.score, decoded.log_probability)  # the attention of each position exceeds 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(beam_width=2, top_paths=3), "`top_paths` must be an integer from 1 to 2. Received: 3"),
        (dict(beam_width=0, top_paths=0), "`beam_width` must be an integer of at least 1"),
        (dict(beam_width=2.5), "`beam_width` must be an integer of at least 1. Received: 2.5"),
        (dict(top_paths=0), "`top_paths` must be an integer from 1 to 5. Received: 0"),
        (dict(coverage_penalty=-0.1), "`coverage_penalty` must be 0 or more. Received: -0.1"),
        (dict(start=-1), "must be ids >= 0. Received: -1 and 1"),
        (dict(end=4), r"V above `start` and `end`, 2 and 4. Received: logits of shape \(3, 4\)"),
        (dict(memory=None, state=()), "at least one tensor"),
        (dict(step=lambda tokens, *_: (tf.zeros([len(tokens), 4]), (), None), coverage_penalty=0.1), "requires a step"),
        (dict(step=lambda tokens, *_: (tf.zeros([len(tokens), 1, 4]), (), None)), r"logits \[N, V\]"),
    ],
)
def test_invalid_arguments_raise(wrong, message):
    toy = Toy(0)
    arguments = dict(step=toy.step, state=toy.state, memory=toy.memory, start=2, end=1, max_length=3) | wrong
    with pytest.raises(ValueError, match=message):
        beam_search(**arguments)
