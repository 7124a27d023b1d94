"""Monotonic attention, whose alignments only move forward."""

from keras import ops

from keras_dl.ops.scan import scan

MODES = ("parallel", "recursive", "hard")


def monotonic_alignment(probability, previous, mode="parallel"):
    """Computes the alignments of queries that each start where the previous one stopped and stop at a key at random.

    Let p[t, s] be the probability of stopping at key s once it is reached, and a[t-1] the previous alignment. Then

        q[t, s] = (1 - p[t, s-1]) q[t, s-1] + a[t-1, s]        the probability of reaching key s
        a[t, s] = p[t, s] q[t, s]

    A row may sum to less than 1; the rest is the probability of not stopping. Masked keys must have probability 0.

    Args:
        probability: float tensor `[B, T, S]` from 0 to 1; only 0 and 1 for `"hard"`.
        previous: float tensor `[B, S]`, the alignment before the first query: 1 at key 0 and 0 elsewhere at the start.
        mode: `"parallel"` (default): the sum over s takes log2(S) steps, or S steps if S is not static. `"recursive"`:
            S steps. Both are exact. `"hard"`: each query stops at the first key with probability 1, starting at the
            previous position.

    Returns:
        float tensor `[B, T, S]`.

    Raises:
        ValueError: if the mode is invalid.

    Source: Raffel et al. 2017, "Online and linear-time attention by enforcing monotonic alignments", equations 8 to 10,
    https://arxiv.org/abs/1704.00784

    Example:

    >>> import numpy as np
    >>> probability = np.array([[[0.5, 1.0, 0.0], [0.0, 0.5, 0.5]]])
    >>> monotonic_alignment(probability, np.array([[1.0, 0.0, 0.0]]))[0].numpy().tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.25]]
    """
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}. Received: {mode!r}")
    probability = ops.convert_to_tensor(probability)
    previous = ops.cast(previous, probability.dtype)
    step = {"parallel": _parallel, "recursive": _recursive, "hard": _hard}[mode]

    def chained(states, slices):
        return [step(slices[0], states[0])]

    _, alignments = scan(chained, [previous], [ops.transpose(probability, (1, 0, 2))])
    return ops.transpose(alignments, (1, 0, 2))


def _parallel(probability, previous):
    """Doubles the range of keys in each round. It avoids the usual quotient, which loses precision for distant keys."""
    size = probability.shape[1]
    if size is None:
        return _recursive(probability, previous)
    passed, reached, offset = _moved(1 - probability, 1), previous, 1
    while offset < size:
        # On torch, += would write into the tensor of the caller and into values that gradients need.
        reached = reached + passed * _moved(reached, offset)
        passed = passed * _moved(passed, offset)
        offset *= 2
    return probability * reached


def _moved(x, offset):
    return ops.pad(x[:, :-offset], [[0, 0], [offset, 0]])


def _recursive(probability, previous):
    def key(states, slices):
        stop, start = slices
        reached = states[1] + start
        return [stop * reached, (1 - stop) * reached]

    none = ops.zeros_like(previous[:, 0])
    columns = [ops.transpose(probability), ops.transpose(previous)]
    return ops.transpose(scan(key, [none, none], columns)[1])


def _hard(probability, previous):
    able = probability * ops.cumsum(previous, axis=1)
    none_before = ops.cumprod(1 - able, axis=1)
    return able * ops.concatenate([ops.ones_like(able[:, :1]), none_before[:, :-1]], axis=1)
