"""Greedy search: the most probable token at each step."""

import tensorflow as tf

from keras_dl.ops.decoding.decoded import Decoded
from keras_dl.ops.decoding.loop import batch_size, bounded, of_length, run


def greedy_search(step, state, memory, *, start, end, max_length, min_length=0):
    """Takes the most probable token at each step, until it is the end token.

    Args:
        step: `step(tokens [B] int32, time [] int32, state, memory) -> (logits [B, V], state, alignment [B, S] or
            None)`; time is 0 in the first step. Logits may be -inf; NaN counts as -inf.
        state: nested tensors `[B, ...]`. A row that has ended continues until all rows have ended. A dimension may grow
            from step to step.
        memory: nested tensors `[B, ...]`, in which entries may be None.
        start: int, the token before the first label.
        end: int, the token that ends a sequence.
        max_length: int, or int tensor `[]`, the number of steps: a sequence has at most this many labels, one fewer if
            it includes the end. 0 or less gives empty sequences.
        min_length: int, or int tensor `[]`, the number of labels before which a sequence cannot end. Defaults to 0.

    Returns:
        `Decoded` with one sequence per row; its score is the log probability.

    Raises:
        ValueError: if start or end is not a valid id, or if there is neither state nor memory.

    Example:

    >>> def step(tokens, time, state, memory):                   # counts down from the memory to 0
    ...     return tf.one_hot(memory - time, 9) * 20, state, None
    >>> greedy_search(step, (), tf.constant([2, 3]), start=0, end=0, max_length=3).tokens.numpy().tolist()
    [[[2, 1, -1]], [[3, 2, 1]]]
    """

    def most_probable(time, log_probability):
        return tf.argmax(log_probability, axis=1, output_type=tf.int32)

    return one_a_row(
        step, state, memory, most_probable, start=start, end=end, max_length=max_length, min_length=min_length
    )


def one_a_row(step, state, memory, draw, *, start, end, max_length, min_length):
    """Draws one token per row at each step.

    Args:
        step, state, memory, start, end, max_length, min_length: see `greedy_search`.
        draw: `draw(time [], log_probability [B, V]) -> int32 tensor [B]`.

    Returns:
        `Decoded` with one sequence per row.

    Raises:
        ValueError: see `greedy_search`.

    Example:

    >>> def step(tokens, time, state, memory):
    ...     return tf.one_hot([2], 3) * 20, state, None
    >>> def least(time, log_probability):
    ...     return tf.argmin(log_probability, axis=1, output_type=tf.int32)
    >>> one_a_row(step, (), tf.zeros([1]), least, start=0, end=1, max_length=2, min_length=0).tokens.numpy().tolist()
    [[[0, 0]]]
    """

    def choose(time, log_probability, alignment, carry):
        open_, length, total = carry
        ends = tf.range(log_probability.shape[1]) == end
        log_probability = tf.where(ends & (time < min_length), float("-inf"), log_probability)
        drawn = draw(time, log_probability)
        total = tf.where(open_, total + tf.gather(log_probability, drawn, batch_dims=1), total)
        open_ &= (drawn != end) & (total > float("-inf"))
        length += tf.cast(open_, tf.int32)
        return drawn, None, (open_, length, total), tf.reduce_any(open_)

    rows, min_length = batch_size(state, memory), tf.cast(min_length, tf.int32)
    carry = tf.ones([rows], tf.bool), tf.zeros([rows], tf.int32), tf.zeros([rows])
    history, _, (open_, length, total) = run(
        step, choose, state, memory, carry, start=start, end=end, max_length=max_length
    )
    bound = bounded(max_length)
    count = tf.convert_to_tensor(bound)
    total = tf.where(count > 0, total, 0.0)
    possible = total > float("-inf")
    length = tf.where(possible, tf.minimum(length, count), 0)
    inside = tf.sequence_mask(length, tf.shape(history.tokens)[0])
    tokens = of_length(tf.where(inside, tf.transpose(history.tokens), -1), bound, -1, axis=1)
    alignment = None
    if history.alignment is not None:
        alignment = tf.where(inside[..., None], tf.transpose(history.alignment, [1, 0, 2]), 0.0)
        alignment = of_length(alignment, bound, 0.0, axis=1)[:, None]
    finished = possible & ~open_ & (count > 0)
    return Decoded(tokens[:, None], length[:, None], total[:, None], total[:, None], alignment, finished[:, None])
