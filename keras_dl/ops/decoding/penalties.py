"""Length and coverage penalties of beam search."""

import tensorflow as tf

# Lower bound of the attention: the logarithm of 0 would exclude the sequence.
LEAST_ATTENTION = 1e-6


def length_penalty(length, strength):
    """Returns the divisor of the log probability of a sequence: `((5 + length) / 6) ** strength`.

    Args:
        length: int tensor, the number of labels.
        strength: float, or float tensor `[]`. 0 leaves the log probability unchanged, which favors short sequences; 1
            is approximately the mean over the labels; values below 0 favor short sequences even more.

    Returns:
        float32 tensor of the shape of `length`, above 0.

    Example:

    >>> length_penalty([1, 7], 1.0).numpy().tolist(), length_penalty([1, 7], 0.0).numpy().tolist()
    ([1.0, 2.0], [1.0, 1.0])

    Reference: Wu et al. 2016, "Google's neural machine translation system", equation 14,
    https://arxiv.org/abs/1609.08144. Their default is 0.2.
    """
    return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** tf.cast(strength, tf.float32)


def coverage_penalty(attention, strength, mask=None):
    """Returns the penalty of a sequence that does not attend to all positions of the memory.

    `strength * sum over s of log(min(attention[s], 1))`

    Args:
        attention: float tensor `[..., S]`, the sum of the alignments of all labels; below 1e-6 it counts as 1e-6.
        strength: float, 0 or more.
        mask: bool tensor that broadcasts to `[..., S]`, the positions that count, or None (default) for all.

    Returns:
        float32 tensor `[...]`, 0 or less.

    Example:

    >>> coverage_penalty([[1.0, 0.5, 2.0], [0.5, 0.5, 1.0]], 1.0).numpy().round(4)
    array([-0.6931, -1.3863], dtype=float32)

    Reference: Wu et al. 2016, "Google's neural machine translation system", equation 14,
    https://arxiv.org/abs/1609.08144. Their default is 0.2.
    """
    left = tf.math.log(tf.clip_by_value(tf.cast(attention, tf.float32), LEAST_ATTENTION, 1.0))
    return strength * tf.reduce_sum(left if mask is None else tf.where(mask, left, 0.0), axis=-1)
