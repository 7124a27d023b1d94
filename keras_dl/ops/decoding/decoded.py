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


def traced(history, place, length):
    """Goes back from the last step of each answer to its first, from parent to parent.

    Args:
        history: `History` of the N hypotheses of each of T steps, with parents.
        place: int32 tensor `[B, P]`, below N, which hypothesis of its last step each answer is.
        length: int32 tensor `[B, P]`, the steps of each answer.

    Returns:
        `(tokens, alignment)`, int32 `[B, P, T]` with -1 behind the last, and float32 `[B, P, T, S]` with 0 there, or
        None if the history has none.

    Example:

    >>> from keras_dl.ops.decoding.loop import History
    >>> history = History(tf.constant([[5, 6], [7, 8]]), tf.constant([[0, 0], [1, 0]]), None)
    >>> traced(history, place=[[0, 1, 0]], length=[[2, 2, 1]])[0].numpy().tolist()
    [[[6, 7], [5, 8], [5, -1]]]
    """
    place, length = tf.convert_to_tensor(place), tf.convert_to_tensor(length)
    steps, width = history.tokens.shape[0] or tf.shape(history.tokens)[0], tf.shape(history.tokens)[1]
    shape = tf.concat([tf.shape(place), [steps]], axis=0)
    parents = tf.reshape(history.parents, [-1])
    tokens = tf.reshape(history.tokens, [-1])
    last, flat = tf.reshape(length, [-1]), tf.reshape(place, [-1])

    def back(time, place, places):
        here = time * width + place
        return time - 1, tf.where(time < last, tf.gather(parents, here), place), places.write(time, here)

    # What is behind the longest answer is not gone through: a history may have many steps that were never run.
    longest = tf.maximum(tf.reduce_max(last), 1)
    places = tf.TensorArray(tf.int32, steps, element_shape=flat.shape)
    *_, places = tf.while_loop(lambda time, *_: time >= 0, back, (longest - 1, flat, places), maximum_iterations=steps)
    places = tf.transpose(tf.reshape(places.stack(), [steps, tf.size(flat)]))
    inside = tf.sequence_mask(last, steps)
    tokens = tf.reshape(tf.where(inside, tf.gather(tokens, places), -1), shape)
    if history.alignment is None:
        return tokens, None
    alignment = tf.reshape(history.alignment, [-1, tf.shape(history.alignment)[2]])
    alignment = tf.where(inside[..., None], tf.gather(alignment, places), 0.0)
    return tokens, tf.reshape(alignment, tf.concat([shape, tf.shape(alignment)[2:]], axis=0))
