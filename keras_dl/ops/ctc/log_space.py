"""Log probabilities in CTC: the value of zero, the thresholds that count as zero, and addition."""

import tensorflow as tf

# The logarithm of zero. It is finite because inf - inf is NaN; a log probability below half of it counts as zero.
LOG_ZERO = -1e30

# A class whose logit is this far below the largest of its frame has probability zero in the loss and in alignments.
# `certain_blank` sets the logits of all other classes below it.
IMPOSSIBLE_GAP = -1e8

# Log probabilities of a frame below this value become `LOG_ZERO` in a beam search. `certain_blank` sets the other
# classes of a masked frame to -1e9, or to -3e4 in float16.
NEGLIGIBLE = -2e4


def log_add(first, second, dtype=None, softplus=None):
    """Returns `log(exp(first) + exp(second))`.

    Args:
        first, second: float tensors of the same dtype.
        dtype: the dtype of the transcendental part. Defaults to None for that of the tensors.
        softplus: function that returns `log(1 + exp(x))` for x of at most 0, or None (default).

    Returns:
        float tensor of the dtype of `first`.

    Example:

    >>> float(tf.exp(log_add(tf.math.log(2.0), tf.math.log(3.0))).numpy().round(3))
    5.0
    """
    larger = tf.maximum(first, second)
    difference = tf.cast(tf.minimum(first, second) - larger, dtype or larger.dtype)
    added = tf.math.log1p(tf.exp(difference)) if softplus is None else softplus(difference)
    return larger + tf.cast(added, larger.dtype)
