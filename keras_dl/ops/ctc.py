"""Connectionist temporal classification (CTC) as pure functions: loss and greedy decoding.

Shapes: B sequences, T frames, V classes with the blank, L labels. Labels are class indices of [B, L]; an entry that is
negative or the blank is padding, and padding stands at the end of a row.

Reference: Graves et al. 2006, "Connectionist temporal classification: labelling unsegmented sequence data with
recurrent neural networks", ICML. https://www.cs.toronto.edu/~graves/icml_2006.pdf
"""

import keras
import tensorflow as tf
from keras import ops


def certain_blank(logits, mask, blank_index=0):
    """Makes every masked frame emit the blank with probability one.

    Such a frame adds nothing to any CTC loss and no token to any decoding, so that no lengths have to be carried.

    Args:
        logits: float tensor `[B, T, V]`; masked frames may hold anything, NaN included.
        mask: bool tensor `[B, T]`, False at frames of padding.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        A tensor like `logits`.

    Example:

    >>> logits = keras.ops.ones((1, 2, 3))
    >>> certain_blank(logits, keras.ops.array([[True, False]]))[0, 1].numpy().argmax()
    np.int64(0)
    """
    dtype = keras.backend.standardize_dtype(logits.dtype)
    # Finite, so that no -inf - -inf becomes NaN; half of what float16 can hold, far below any logit in float32.
    low = -3e4 if dtype == "float16" else -1e9
    blank = ops.cast(ops.one_hot(blank_index, ops.shape(logits)[-1], dtype=dtype) * -low + low, dtype)
    return ops.where(ops.expand_dims(mask, -1), logits, blank)


def ctc_loss(labels, logits, label_length=None, logit_length=None, blank_index=0):
    """Negative log probability of the labels, `-log p(labels | logits)`, per sequence.

    Stands on `tf.nn.ctc_loss` (dense), with what stands in the padding made harmless. A row whose labels do not fit
    into its frames (T < L + number of equal neighbours) has a large finite loss, as in TensorFlow.

    Args:
        labels: int tensor `[B, L]`, padded with the blank or with negative numbers.
        logits: float tensor `[B, T, V]`, unnormalised.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        float32 tensor `[B]`.

    Example:

    >>> import numpy as np
    >>> uniform = np.zeros((1, 2, 3), "float32")                 # two frames, blank and two labels, each 1/3
    >>> loss = ctc_loss(np.array([[1]]), uniform)                # paths: 11, 1-, -1: three of nine
    >>> round(float(np.exp(-loss[0])), 4)
    0.3333
    """
    labels = ops.cast(labels, "int32")
    logits = ops.cast(logits, "float32")
    valid = ops.logical_and(labels >= 0, labels != blank_index)
    if label_length is None:
        label_length = ops.sum(ops.cast(valid, "int32"), axis=1)
    frames = ops.shape(logits)[1]
    if logit_length is None:
        logit_length = tf.fill([ops.shape(logits)[0]], frames)
    else:
        logits = certain_blank(logits, tf.sequence_mask(logit_length, frames), blank_index)
    return tf.nn.ctc_loss(
        ops.where(valid, labels, blank_index),
        logits,
        ops.cast(label_length, "int32"),
        ops.cast(logit_length, "int32"),
        logits_time_major=False,
        blank_index=blank_index,
    )


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


def edit_distance(hypotheses, references):
    """Levenshtein distance between rows of tokens, by `tf.edit_distance`.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries are no tokens, wherever they stand.
        references: int tensor `[B, L]`; likewise.

    Returns:
        float32 tensor `[B]`: insertions, deletions and substitutions, each counted as one.

    Example:

    >>> import numpy as np
    >>> edit_distance(np.array([[1, 2, -1]]), np.array([[1, 3, 2]])).numpy().tolist()
    [1.0]
    """
    hypotheses, references = _sparse(hypotheses), _sparse(references)
    return tf.edit_distance(hypotheses, references, normalize=False)


def _sparse(tokens):
    tokens = ops.cast(tokens, "int32")
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(tokens, tokens >= 0), tf.reduce_sum(tf.cast(tokens >= 0, tf.int64), 1)
    ).to_sparse()
