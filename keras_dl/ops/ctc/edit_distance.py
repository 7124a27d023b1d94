"""How far decodings are from the truth."""

import tensorflow as tf
from keras import ops


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
