"""Forced alignment of labels to frames."""

import functools
from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.ctc.inputs import checked_inputs, refuse_nan, specs_of
from keras_dl.ops.ctc.lattice import interleave, may_jump, valid_states
from keras_dl.ops.ctc.log_space import IMPOSSIBLE_GAP
from keras_dl.ops.scan import scan


class Alignment(NamedTuple):
    """The result of `align`: -1, and a confidence of 0, where there is no frame or no label.

    Attributes:
        path: int32 tensor `[B, T]`, the class of each frame, including blanks.
        start: int32 tensor `[B, L]`, the first frame of each label.
        end: int32 tensor `[B, L]`, one past its last frame.
        confidence: float tensor `[B, L]`, the mean probability of each label over its frames.
        log_probability: float tensor `[B]`, of the path; -inf where no path exists.

    Example:

    >>> align(tf.constant([[2]]), tf.zeros([1, 1, 4])).confidence.numpy().tolist()
    [[0.25]]
    """

    path: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    confidence: tf.Tensor
    log_probability: tf.Tensor


def align(labels, logits, label_length=None, logit_length=None, blank_index=0):
    """Finds the most probable path that collapses to the labels, and with it the frames of each label.

    This is the Viterbi algorithm on the lattice of the loss, with a maximum instead of each sum:

        v[t, s] = max(v[t-1, s], v[t-1, s-1], v[t-1, s-2] where a path may jump) + log softmax(logits)[t, z[s]]

    The path is traced back from the better of the last two states. If several paths are equally probable, one of them
    is returned. For many batches of the same shape, calling it in a `tf.function(jit_compile=True)` is several times
    faster.

    Args:
        labels: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        logits: float tensor `[B, T, V]`, unnormalized, or ragged; padded frames may contain any values.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        `Alignment(path, start, end, confidence, log_probability)`: label l occupies the frames
        `start[l] <= t < end[l]`, and its confidence is the mean of `softmax(logits)[t, label]` over them. If no path
        fits a row (it has fewer frames than `minimum_frames`, or a label with probability zero), its log probability is
        -inf and all other values are -1 (confidence 0). Floats are float32, or float64 for float64 logits.

    Raises:
        ValueError: if a shape, label or length is invalid, or if a valid frame contains NaN; the message names the row.
            In a graph, `tf.errors.InvalidArgumentError` is raised instead.

    Example:

    >>> import numpy as np
    >>> logits = np.eye(3, dtype="float32")[[[0, 1, 1, 0, 2]]] * 9         # - 1 1 - 2
    >>> alignment = align(np.array([[1, 2]]), logits)
    >>> alignment.path.numpy().tolist(), alignment.start.numpy().tolist(), alignment.end.numpy().tolist()
    ([[0, 1, 1, 0, 2]], [[1, 4]], [[3, 5]])
    >>> alignment.confidence.numpy().round(4)
    array([[0.9998, 0.9998]], dtype=float32)

    Reference: Forney 1973, "The Viterbi algorithm", Proceedings of the IEEE 61(3); Kuerzinger et al. 2020,
    "CTC-segmentation of large corpora for German end-to-end speech recognition", https://arxiv.org/abs/2007.09127
    """
    labels, logits, label_length, logit_length = checked_inputs(labels, logits, label_length, logit_length, blank_index)
    refuse_nan(logits, logit_length)
    function = _align if tf.inside_function() else _traced(logits.dtype)
    return function(labels, logits, label_length, logit_length, tf.constant(blank_index, tf.int32))


@functools.cache
def _traced(dtype):
    """Returns one graph for all shapes; eager calls would pay for each operation of each frame."""
    return tf.function(_align, autograph=False, input_signature=specs_of(dtype))


def _align(labels, logits, label_length, logit_length, blank_index):
    zero, impossible = (tf.constant(value, logits.dtype) for value in (0.0, -float("inf")))
    frames, longest = tf.shape(logits)[1], tf.shape(labels)[1]
    inside = tf.sequence_mask(logit_length, frames)
    states = interleave(labels, label_length, blank_index)
    log_softmax = tf.nn.log_softmax(tf.where(inside[..., None], logits, zero))
    emission = tf.gather(log_softmax, states, axis=2, batch_dims=1)  # [B, T, S]
    # A padded frame emits the blank with probability one, so it changes no probability and belongs to no label.
    emission = tf.where(inside[..., None], emission, tf.where(states == blank_index, zero, impossible)[:, None])
    valid = valid_states(label_length, tf.shape(states)[1])[:, None]
    emission = tf.where(valid & (emission > IMPOSSIBLE_GAP), emission, impossible)  # False for NaN, too
    pointers, best = _viterbi(tf.transpose(emission, [1, 0, 2]), may_jump(states, blank_index), zero, impossible)

    last = tf.stack([2 * label_length, tf.maximum(2 * label_length - 1, 0)], axis=1)
    scores = tf.gather(best, last, batch_dims=1)
    possible = tf.reduce_max(scores, axis=1) > impossible
    inside &= possible[:, None]
    last = tf.where(scores[:, 0] >= scores[:, 1], last[:, 0], last[:, 1])
    visited = tf.where(inside, _trace_back(pointers, last), -1)  # [B, T], the state of each frame
    path = tf.where(inside, tf.gather(states, tf.maximum(visited, 0), batch_dims=1), -1)
    of_frames = tf.gather(log_softmax, tf.maximum(path, 0), batch_dims=2)
    # More precise than the sum that the recursion accumulates.
    log_probability = tf.reduce_sum(tf.where(inside, of_frames, zero), axis=1)
    log_probability = tf.where(possible, log_probability, impossible)

    # States never decrease along a path, so the frames of a label are contiguous.
    occupied = visited[..., None] == 2 * tf.range(longest) + 1  # [B, T, L]
    length = tf.math.count_nonzero(occupied, axis=1, dtype=tf.int32)
    start = tf.reduce_min(tf.where(occupied, tf.range(frames)[:, None], frames), axis=1)
    start, end = (tf.where(length > 0, frame, -1) for frame in (start, start + length))
    probability = tf.exp(tf.where(inside, of_frames, impossible))[:, None] @ tf.cast(occupied, zero.dtype)  # [B, 1, L]
    confidence = tf.math.divide_no_nan(probability[:, 0], tf.cast(length, zero.dtype))
    return Alignment(path, start, end, confidence, log_probability)


def _viterbi(emission, jump, zero, impossible):
    """Returns how many states back the best predecessor is, int8 `[T, B, S]`, and the last scores, `[B, S]`."""
    skip = tf.where(jump, zero, impossible)
    # Paths start in the first blank, from which the first two states can be reached.
    score = tf.where(tf.range(tf.shape(jump)[1]) == 0, tf.zeros_like(skip), impossible)

    def step(carry, slices):
        stay = carry[1]
        before = tf.pad(stay, [[0, 0], [2, 0]], constant_values=impossible)
        one, two = before[:, 1:-1], before[:, :-2] + skip
        move = tf.maximum(one, two)
        pointer = tf.where(stay >= move, tf.constant(0, tf.int8), tf.where(one >= two, tf.constant(1, tf.int8), 2))
        return [pointer, tf.maximum(stay, move) + slices[0]]

    (_, score), pointers = scan(step, [tf.zeros_like(score, tf.int8), score], [emission])
    return pointers, score


def _trace_back(pointers, last):
    """Returns the state of each frame, int32 `[B, T]`, from the pointers and the last state."""

    def step(carry, slices):
        state = carry[1]
        return [state, state - tf.cast(tf.gather(slices[0], state, batch_dims=1), tf.int32)]

    _, visited = scan(step, [last, last], [tf.reverse(pointers, [0])])
    return tf.transpose(tf.reverse(visited, [0]))
