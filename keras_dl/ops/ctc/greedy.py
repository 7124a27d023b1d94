"""Best path decoding."""

import tensorflow as tf
from keras import ops

from keras_dl.ops.ctc.certain_blank import certain_blank


def greedy_decode(logits, logit_length=None, blank_index=0):
    """Best path decoding: the most probable class of each frame, repeats merged, blanks dropped.

    Args:
        logits: float tensor `[B, T, V]`.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        `(tokens, score)`: int32 `[B, T]`, padded with -1 at the end, and float32 `[B]`, the log probability of the
        best path.

    Example:

    >>> import numpy as np
    >>> path = np.array([[1, 1, 0, 1, 2]])                       # 1 1 - 1 2
    >>> tokens, score = greedy_decode(np.eye(3, dtype="float32")[path] * 50)
    >>> tokens.numpy().tolist(), round(float(score[0]), 4)
    ([[1, 1, 2, -1, -1]], 0.0)
    """
    logits = ops.cast(logits, "float32")
    frames = ops.shape(logits)[1]
    if logit_length is not None:
        inside = ops.expand_dims(ops.arange(frames), 0) < ops.expand_dims(ops.cast(logit_length, "int32"), 1)
        logits = certain_blank(logits, inside, blank_index)
    score = ops.sum(tf.reduce_max(ops.log_softmax(logits, axis=-1), axis=-1), axis=-1)  # Keras' max refuses T = 0
    path = ops.cast(ops.argmax(logits, axis=-1), "int32")
    previous = ops.pad(path, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    keep = ops.logical_and(path != blank_index, path != previous)
    # A stable sort by "dropped" moves the kept tokens to the front and leaves their order alone.
    position = ops.where(keep, 0, frames) + ops.expand_dims(ops.arange(frames), 0)
    order = ops.argsort(position, axis=-1)
    tokens = ops.take_along_axis(ops.where(keep, path, -1), order, axis=-1)
    return tokens, score
