"""The result of a search over the outputs of a decoder."""

from typing import NamedTuple

import tensorflow as tf


class Decoded(NamedTuple):
    """The best P sequences for each of B inputs, best first; T is `max_length`.

    If fewer than P sequences are possible, the others have no tokens, and a score and log probability of -inf.

    Attributes:
        tokens: int32 tensor `[B, P, T]`, the labels without start and end, padded with -1.
        lengths: int32 tensor `[B, P]`, the number of labels.
        score: float32 tensor `[B, P]`, the log probability with the penalties, by which the sequences are sorted.
        log_probability: float32 tensor `[B, P]`, of the labels, and of the end if it was reached.
        alignment: float32 tensor `[B, P, T, S]`, the attention weights of each label, 0 after the last label; None if
            the step returns no alignment.
        finished: bool tensor `[B, P]`: True if the end was reached, False if the sequence was cut off at `max_length`.

    Example:

    >>> from keras_dl.ops.decoding import greedy_search
    >>> def step(tokens, time, state, memory):                   # emits the memory, then the end, 0
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
    """Follows the parents of each sequence from its last step back to the first.

    Args:
        history: `History` of the N hypotheses of each of T steps, with parents.
        place: int32 tensor `[B, P]`, below N, the hypothesis of each sequence at its last step.
        length: int32 tensor `[B, P]`, the number of steps of each sequence.

    Returns:
        `(tokens, alignment)`: int32 `[B, P, T]`, padded with -1, and float32 `[B, P, T, S]`, padded with 0, or None if
        the history has no alignment.

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

    # Skips the steps after the longest sequence: a history may have many steps that were never run.
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
