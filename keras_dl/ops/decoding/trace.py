"""What a hypothesis said, read off the choices of all steps."""

import tensorflow as tf


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
