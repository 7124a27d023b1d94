"""Best path decoding."""

from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.checks import require_rank
from keras_dl.ops.ctc.inputs import checked_logits


class BestPath(NamedTuple):
    """The result of `greedy_decode`; after the last token of a row, entries are -1 and confidences 0.

    Attributes:
        tokens: int32 tensor `[B, T]`.
        log_probability: float tensor `[B]`, of the best path.
        start: int32 tensor `[B, T]`, the first frame of each token.
        end: int32 tensor `[B, T]`, one past its last frame.
        confidence: float tensor `[B, T]`, the mean probability of the token over its frames.

    Example:

    >>> tokens, log_probability, *_ = greedy_decode(tf.math.log([[[0.25, 0.75]]]))
    >>> tokens.numpy().tolist(), tf.exp(log_probability).numpy().round(4).tolist()
    ([[1]], [0.75])
    """

    tokens: tf.Tensor
    log_probability: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    confidence: tf.Tensor


def greedy_decode(logits, logit_length=None, blank_index=0):
    """Decodes the best path: takes the most probable class of each frame, merges repeats and removes blanks.

    Args:
        logits: float tensor `[B, T, V]`, unnormalized, or ragged; padded frames may contain any values.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        `BestPath(tokens, log_probability, start, end, confidence)`: token n occupies the frames
        `start[n] <= t < end[n]`, and its confidence is the mean of `softmax(logits)[t, token]` over them. Floats are
        float32, or float64 for float64 logits.

    Raises:
        ValueError: if a length is out of range or a valid frame contains NaN (`tf.errors.InvalidArgumentError` in a
            graph).

    Example:

    >>> import numpy as np
    >>> path = np.array([[1, 1, 0, 1, 2]])                       # 1 1 - 1 2
    >>> best = greedy_decode(np.eye(3, dtype="float32")[path] * 50)
    >>> best.tokens.numpy().tolist(), round(float(best.log_probability[0]), 4)
    ([[1, 1, 2, -1, -1]], 0.0)
    >>> best.start.numpy().tolist(), best.end.numpy().tolist()
    ([[0, 3, 4, -1, -1]], [[2, 4, 5, -1, -1]])

    Reference: Graves et al. 2006, section 3.2. https://www.cs.toronto.edu/~graves/icml_2006.pdf
    """
    logits, logit_length = checked_logits(logits, logit_length, blank_index)
    frames = tf.shape(logits)[1]
    inside = tf.sequence_mask(logit_length, frames)
    best = tf.reduce_max(tf.nn.log_softmax(tf.where(inside[..., None], logits, 0)), axis=2)
    path = tf.where(inside, tf.argmax(logits, axis=2, output_type=tf.int32), blank_index)
    token = _token_of_frame(path, blank_index)
    tokens, length = _first_of(path, token), _sum_of(tf.ones_like(path), token)
    start = _first_of(tf.broadcast_to(tf.range(frames), tf.shape(path)), token)
    confidence = tf.math.divide_no_nan(_sum_of(tf.exp(best), token), tf.cast(length, best.dtype))
    log_probability = tf.reduce_sum(tf.where(inside, best, 0), axis=1)
    return BestPath(tokens, log_probability, start, tf.where(length > 0, start + length, -1), confidence)


def collapse(path, blank_index=0, logit_length=None):
    """Converts a path to tokens: merges repeats, then removes blanks.

    Args:
        path: int tensor `[B, T]`, the class of each frame; negative entries are padding, as in `align(...).path`.
        blank_index: int, the class of the blank. Defaults to 0.
        logit_length: int tensor `[B]`, or None (default) for T.

    Returns:
        int32 tensor `[B, T]`: the tokens, padded with -1.

    Example:

    >>> collapse(tf.constant([[0, 1, 1, 0, 1, 2, -1]])).numpy().tolist()
    [[1, 1, 2, -1, -1, -1, -1]]
    """
    path = tf.cast(path, tf.int32)
    require_rank("path", None if path.shape.rank is None else path.shape, "[B, T]")
    if logit_length is not None:
        path = tf.where(tf.sequence_mask(logit_length, tf.shape(path)[1]), path, -1)
    return _first_of(path, _token_of_frame(path, blank_index))


def _token_of_frame(path, blank_index):
    """Returns the token that each frame belongs to, numbered over the batch, T per row; -1 for blanks and padding."""
    batch, frames = tf.unstack(tf.shape(path))
    previous = tf.pad(path, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    is_token = (path != blank_index) & (path >= 0)
    number = tf.cumsum(tf.cast(is_token & (path != previous), tf.int32), axis=1) - 1
    return tf.where(is_token, number + frames * tf.range(batch)[:, None], -1)


def _first_of(values, token):
    """Returns the smallest value over the frames of each token, which is at its first frame; -1 for missing tokens."""
    least = tf.math.unsorted_segment_min(values, token, tf.size(token))
    return tf.reshape(tf.where(least == values.dtype.max, -1, least), tf.shape(token))


def _sum_of(values, token):
    return tf.reshape(tf.math.unsorted_segment_sum(values, token, tf.size(token)), tf.shape(token))
