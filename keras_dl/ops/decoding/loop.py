"""The loop of all searches, which runs a decoder step by step.

Shapes: B inputs, N = B x width hypotheses, row by row, V ids, S positions of the memory.
"""

from typing import NamedTuple

import tensorflow as tf


class History(NamedTuple):
    """The choices in each of T steps; zeros in steps that were not run.

    Attributes:
        tokens: int32 tensor `[T, N]`.
        parents: int32 tensor `[T, N]`, the hypothesis of the previous step that each one extends, or None.
        alignment: float32 tensor `[T, N, S]`, or None.

    Example:

    >>> History(tokens=tf.zeros([2, 3], tf.int32), parents=None, alignment=None).tokens.shape
    TensorShape([2, 3])
    """

    tokens: tf.Tensor
    parents: tf.Tensor
    alignment: tf.Tensor


def log_probabilities(logits):
    """Computes the log softmax in float32; -inf and NaN have probability 0, even if a whole row consists of them.

    Args:
        logits: float tensor `[..., V]`; +inf counts as the largest float.

    Returns:
        float32 tensor `[..., V]`, without NaN.

    Example:

    >>> inf, nan = float("inf"), float("nan")
    >>> tf.exp(log_probabilities([[0.0, nan, 0.0, -inf], [-inf, nan, nan, nan], [inf, 0.0, 0.0, 0.0]])).numpy()
    array([[0.5, 0. , 0.5, 0. ],
           [0. , 0. , 0. , 0. ],
           [1. , 0. , 0. , 0. ]], dtype=float32)
    """
    logits = tf.cast(logits, tf.float32)
    possible = logits > float("-inf")  # NaN is not
    logits = tf.where(possible, tf.minimum(logits, tf.float32.max), float("-inf"))
    return tf.where(possible, tf.nn.log_softmax(logits), float("-inf"))


def batch_size(state, memory):
    """Returns the number of rows.

    Args:
        state: nested tensors `[B, ...]`.
        memory: nested tensors `[B, ...]`, in which entries may be None.

    Returns:
        int, or int32 tensor `[]` if it is not static.

    Raises:
        ValueError: if there is no tensor.

    Example:

    >>> batch_size((), {"keys": tf.zeros([3, 5]), "mask": None})
    3
    """
    for tensor in tf.nest.flatten((state, memory)):
        if tensor is not None:
            return tf.convert_to_tensor(tensor).shape[0] or tf.shape(tensor)[0]
    raise ValueError("State or memory must contain at least one tensor [B, ...]. Received: none")


def run(step, choose, state, memory, carry, *, start, end, max_length, width=1):
    """Runs a decoder. The first step processes B rows, before there are `width` hypotheses per row.

    Args:
        step: `step(tokens [N], time [], state, memory) -> (logits [N, V], state, alignment [N, S] or None)`.
        choose: `choose(time, log_probability [n, V], alignment [n, S] or None, carry) -> (tokens [N], parents [N] or
            None, carry, proceed [])`; n is B at time 0 and N later, and parents are below n. It is called at time 0
            even if `max_length` is 0.
        state: nested tensors `[B, ...]`, gathered by the parents at each step. A dimension that the first step changes
            may change at each step, so caches may grow (not under XLA).
        memory: nested tensors `[B, ...]`, in which entries may be None; repeated once for the hypotheses.
        carry: nested tensors, the state of `choose`.
        start: int, the token before the first label.
        end: int, the token that ends a sequence.
        max_length: int, or int tensor `[]`.
        width: int, the number of hypotheses per row. Defaults to 1.

    Returns:
        `(history, steps, carry)`: a `History`, the number of steps that were run, int32 `[]`, and the last state of
        `choose`. The history has `max_length` steps if that is an int, which XLA requires, else only those that were
        run, so a high bound costs nothing. A `max_length` below 1 counts as 1.

    Raises:
        ValueError: if there is neither state nor memory, if the number of ids is not static, or if start or end is not
            an id.

    Example:

    >>> def step(tokens, time, state, memory):
    ...     return tf.one_hot(tokens + 1, 5), state, None
    >>> def choose(time, log_probability, alignment, carry):
    ...     return tf.argmax(log_probability, axis=1, output_type=tf.int32), None, carry, time < 2
    >>> history, steps, _ = run(step, choose, (), tf.zeros([1]), (), start=0, end=4, max_length=4)
    >>> history.tokens.numpy().tolist(), int(steps)
    ([[1], [2], [3], [0]], 3)
    """
    if min(start, end) < 0:
        raise ValueError(f"`start` and `end` must be ids >= 0. Received: {start} and {end}")
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    grows = tf.is_tensor(max_length)
    length = tf.maximum(bounded(max_length), 1) if grows else max(max_length, 1)

    def advance(time, tokens, state, memory, carry):
        logits, state, alignment = step(tokens, time, state, memory)
        if logits.shape.rank != 2 or logits.shape[1] is None or max(start, end) >= logits.shape[1]:
            raise ValueError(
                f"The step must return logits [N, V] with V above `start` and `end`, {start} and {end}. "
                f"Received: logits of shape {logits.shape}"
            )
        tokens, parents, carry, proceed = choose(time, log_probabilities(logits), alignment, carry)
        if parents is not None:
            state = tf.nest.map_structure(lambda tensor: tf.gather(tensor, parents), state)
            alignment = None if alignment is None else tf.gather(alignment, parents)
        alignment = None if alignment is None else tf.cast(alignment, tf.float32)
        return (time + 1, proceed, tokens, state, carry), [tokens, parents, alignment]

    first = tf.fill([batch_size(state, memory)], start)
    variables, chosen = advance(tf.constant(0), first, state, memory, carry)
    variables = (*variables[:3], tf.nest.map_structure(_lasting, variables[3], state), variables[4])
    # Missing values are empty tuples, because loop variables cannot be None.
    size = {"size": 1 if grows else length, "dynamic_size": grows}
    histories = [
        () if value is None else tf.TensorArray(value.dtype, **size, element_shape=value.shape).write(0, value)
        for value in chosen
    ]
    repeated = tf.nest.map_structure(lambda tensor: tensor if tensor is None else _repeated(tensor, width), memory)

    def body(variables, histories):
        time, _, tokens, state, carry = variables
        following, chosen = advance(time, tokens, state, repeated, carry)
        if not tf.executing_eagerly():  # eager shapes are always known, and may grow
            tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), following, variables)
        return following, [
            () if value is None else history.write(time, value)
            for history, value in zip(histories, chosen, strict=True)
        ]

    variables, histories = tf.while_loop(
        lambda variables, histories: variables[1] & (variables[0] < length),
        body,
        (variables, histories),
        maximum_iterations=length - 1,
    )
    history = History(*(None if history == () else history.stack() for history in histories))
    return history, variables[0], variables[4]


def bounded(max_length):
    """Returns `max_length`, or 0 if it is negative.

    Args:
        max_length: int, or int tensor `[]`.

    Returns:
        int, or int32 tensor `[]`, 0 or more.

    Example:

    >>> bounded(-3)
    0
    """
    return tf.maximum(tf.cast(max_length, tf.int32), 0) if tf.is_tensor(max_length) else max(max_length, 0)


def of_length(tensor, length, filling, axis):
    """Crops or pads an axis.

    Args:
        tensor: tensor of any shape.
        length: int, or int tensor `[]`, the new size of the axis.
        filling: the value of the padding.
        axis: int from 0.

    Returns:
        tensor with this size along the axis.

    Example:

    >>> of_length(tf.constant([[5, 6]]), 3, filling=-1, axis=1).numpy().tolist()
    [[5, 6, -1]]
    """
    tensor = tensor[(slice(None),) * axis + (slice(length),)]
    there = tensor.shape[axis]
    missing = length - (tf.shape(tensor)[axis] if there is None else there)
    paddings = [[0, missing if each == axis else 0] for each in range(tensor.shape.rank)]
    return tf.pad(tensor, paddings, constant_values=filling)


def _repeated(tensor, width):
    """`[B, ...]` -> `[B x width, ...]`."""
    tensor = tf.convert_to_tensor(tensor)
    repeated = tf.repeat(tensor, width, axis=0)
    rows = tensor.shape[0]
    repeated.set_shape([None if rows is None else rows * width, *tensor.shape[1:]])
    return repeated


def _lasting(tensor, before):
    """Returns the tensor with a static shape in which dimensions that a step changes are unknown."""
    lasting = [new if new == old else None for new, old in zip(tensor.shape[1:], before.shape[1:], strict=True)]
    if lasting == tensor.shape[1:]:
        return tensor
    return tf.compat.v1.placeholder_with_default(tensor, [tensor.shape[0], *lasting])
