"""Sampling of sequences from a decoder."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dl.ops.decoding.greedy import one_a_row
from keras_dl.ops.decoding.loop import batch_size
from keras_dl.ops.sampling import sample, uniforms


class _Option(NamedTuple):
    """The dtype, range and description of a sampling option."""

    dtype: tf.DType
    least: float
    most: float
    description: str


_INTEGER = _Option(tf.int32, tf.int32.min, tf.int32.max, "a 32-bit integer")
_OPTIONS = {
    "seed": _INTEGER,
    "temperature": _Option(tf.float32, -np.inf, np.inf, "a number"),
    "top_k": _INTEGER,
    "top_p": _Option(tf.float32, np.nextafter(0.0, 1.0), 1.0, "above 0 and at most 1"),
}


def sample_search(
    step, state, memory, *, start, end, max_length, seed, min_length=0, temperature=1.0, top_k=0, top_p=1.0
):
    """Draws one sequence per row, token by token: `p = softmax(logits / temperature)` among the most probable ids.

    The result depends only on the inputs and seed of the row, not on the other rows or on `max_length`. XLA generates
    different random numbers.

    Args:
        step, state, memory, start, end, max_length, min_length: see `greedy_search`.
        seed: int, or int tensor `[B]` or `[]`. Equal seeds give equal results for equal inputs.
        temperature: float, or float tensor `[B]` or `[]`. Values below 1 favor probable ids; 0 or less is greedy
            search. Defaults to 1.
        top_k: int, or int tensor `[B]` or `[]`: the number of most probable ids to draw from; 0 or less (default), or
            more than V, allows all.
        top_p: float, or float tensor `[B]` or `[]`: of these, only the most probable ones that together have at least
            this probability are allowed, at least one. Defaults to 1, all.

    Returns:
        `Decoded` with one sequence per row; score and log probability do not depend on the temperature.

    Raises:
        ValueError: see `drawing` and `greedy_search`.

    Example:

    >>> def step(tokens, time, state, memory):                   # 0, the end, is half as probable as 1 or 2
    ...     return tf.math.log([[1.0, 2.0, 2.0]] * 3), state, None
    >>> drawn = sample_search(step, (), tf.zeros([3]), start=0, end=0, max_length=6, seed=[1, 2, 1])
    >>> bool(tf.reduce_all(drawn.tokens[0] == drawn.tokens[2])), bool(tf.reduce_all(drawn.tokens[0] == drawn.tokens[1]))
    (True, False)

    Reference: Fan, Lewis and Dauphin 2018, "Hierarchical neural story generation", https://arxiv.org/abs/1805.04833,
    for `top_k`; Holtzman et al. 2019, "The curious case of neural text degeneration",
    https://arxiv.org/abs/1904.09751, for `top_p`.
    """
    rows = batch_size(state, memory)
    options = drawing(rows, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p)
    seed, temperature, top_k, top_p = (tf.broadcast_to(value, [rows]) for value in options.values())
    # With an additional row, since the batch may be empty.
    chances = uniforms(tf.pad(seed, [[0, 1]]), tf.maximum(tf.cast(max_length, tf.int32), 1))[:-1]

    def draw(time, log_probability):
        size = nucleus_size(log_probability, temperature, top_k, top_p)
        return sample(log_probability, chances[:, time], temperature, size)

    return one_a_row(step, state, memory, draw, start=start, end=end, max_length=max_length, min_length=min_length)


def drawing(rows, *, seed, temperature, top_k, top_p):
    """Checks the options of `sample_search`. For values that are not known in a graph, it checks dtype and shape.

    Args:
        rows: int, the batch size, or an int tensor `[]` or None if it is not known.
        seed, temperature, top_k, top_p: see `sample_search`.

    Returns:
        dict of the four options, int32 and float32 tensors `[]` or `[B]`.

    Raises:
        ValueError: if seed or `top_k` is not a 32-bit integer, temperature or `top_p` is not a number, `top_p` is not
            above 0 and at most 1, or an option is neither a scalar nor one value per row.

    Example:

    >>> {name: value.dtype.name for name, value in drawing(3, seed=[1, 2, 3], temperature=1, top_k=5, top_p=1).items()}
    {'seed': 'int32', 'temperature': 'float32', 'top_k': 'int32', 'top_p': 'float32'}
    """
    made = {}
    for name, value in (("seed", seed), ("temperature", temperature), ("top_k", top_k), ("top_p", top_p)):
        known = tf.get_static_value(value) if tf.is_tensor(value) else np.asarray(value)
        like = value if known is None else known
        given, shape, wanted = tf.as_dtype(like.dtype), tf.TensorShape(like.shape), _OPTIONS[name]
        right = given.is_integer or (given.is_floating and wanted.dtype.is_floating)
        if right and known is not None:
            right = ((wanted.least <= known) & (known <= wanted.most)).all()
        if not right:
            raise ValueError(f"`{name}` must be {wanted.description}. Received: {value!r}")
        if shape.rank != 0 and not shape.is_compatible_with([rows if isinstance(rows, int) else None]):
            raise ValueError(f"`{name}` must be a scalar or have one value per row, {rows}. Received: {value}")
        made[name] = tf.cast(value, wanted.dtype)
    return made


def nucleus_size(logits, temperature, top_k, top_p):
    """Returns the smallest number of most probable ids that together have a probability of at least `top_p`.

    Args:
        logits: float tensor `[B, V]`; -inf where an id is not allowed.
        temperature: float tensor `[B]`, by which the logits are divided; 0 or less counts as 1.
        top_k: int tensor `[B]`, the number of most probable ids to consider; 0 or less, or more than V, for all.
        top_p: float tensor `[B]`.

    Returns:
        int32 tensor `[B]`, from 1 to V.

    Example:

    >>> logits = tf.math.log([[0.1, 0.5, 0.4]] * 4)
    >>> nucleus_size(logits, tf.ones([4]), top_k=[0, 0, 0, 2], top_p=[0.45, 0.55, 1.0, 1.0]).numpy().tolist()
    [1, 2, 3, 2]

    Reference: Holtzman et al. 2019, "The curious case of neural text degeneration", section 3.1,
    https://arxiv.org/abs/1904.09751
    """
    temperature, top_p = (tf.convert_to_tensor(value, tf.float32)[:, None] for value in (temperature, top_p))
    top_k = tf.convert_to_tensor(top_k, tf.int32)[:, None]
    ranked = tf.sort(tf.cast(logits, tf.float32), axis=1, direction="DESCENDING")
    kept = (ranked > float("-inf")) & ((tf.range(tf.shape(logits)[1]) < top_k) | (top_k < 1))
    ranked = tf.where(kept, ranked, 0.0) - tf.where(kept[:, :1], ranked[:, :1], 0.0)
    ranked /= tf.where(temperature > 0, temperature, 1.0)
    probability = tf.nn.softmax(tf.where(kept, ranked, float("-inf")))
    # The probability of all more probable ids; rounding may make it 1 before the last, but a `top_p` of 1 allows all.
    before = tf.cumsum(probability, axis=1, exclusive=True)
    kept &= (before < top_p) | (top_p >= 1)
    return tf.maximum(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1), 1)
