"""What every search over the outputs of a decoder returns."""

from typing import NamedTuple

import tensorflow as tf


class Decoded(NamedTuple):
    """The answers to B inputs, the best P of each, best first; T is `max_length`.

    An answer that there is not, since fewer are possible, has score and log probability -inf and no tokens.

    Attributes:
        tokens: int32 tensor `[B, P, T]`, the labels without start and end, and behind them -1.
        lengths: int32 tensor `[B, P]`, the number of labels.
        score: float32 tensor `[B, P]`, what the answers are sorted by: the log probability with the penalties.
        log_probability: float32 tensor `[B, P]`, the model's, of the labels and of the end if it was said.
        alignment: float32 tensor `[B, P, T, S]`, what each label attended to, and behind the labels 0; None if the
            step gives none.
        finished: bool tensor `[B, P]`: the end was said; else the answer was cut off at `max_length`.

    Example:

    >>> from keras_dl.ops.decoding import greedy_search
    >>> def step(tokens, time, state, memory):                   # says what the memory holds, then the end, 0
    ...     return tf.one_hot(memory[:, time], 4) * 20, state, None
    >>> decoded = greedy_search(step, (), tf.constant([[3, 1, 0], [2, 2, 2]]), start=0, end=0, max_length=3)
    >>> decoded.tokens.numpy().tolist(), decoded.lengths.numpy().tolist(), decoded.finished.numpy().tolist()
    ([[[3, 1, -1]], [[2, 2, 2]]], [[2], [3]], [[True], [False]])
    """

    tokens: tf.Tensor
    lengths: tf.Tensor
    score: tf.Tensor
    log_probability: tf.Tensor
    alignment: tf.Tensor
    finished: tf.Tensor
