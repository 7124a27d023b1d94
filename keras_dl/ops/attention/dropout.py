"""Dropout by a seed that is given."""

import keras
from keras import ops


class _Given(keras.random.SeedGenerator):
    """`keras.random` takes tensors of seeds from generators only."""

    def __init__(self, seed):
        self.seed = seed

    def next(self, ordered=True):
        return self.seed


def dropout(weights, rate, seed):
    """Zeros for a share of the weights, drawn by the seed; the others are made larger, so that the mean stays.

    Args:
        weights: float tensor.
        rate: float from 0 to below 1, the share.
        seed: int tensor `[2]`, as `keras.random.SeedGenerator.next()` gives.

    Returns:
        float tensor of the weights' shape and dtype.

    Example:

    >>> import numpy as np
    >>> sorted(set(dropout(np.ones(100), 0.5, np.array([1, 2])).numpy().tolist()))
    [0.0, 2.0]
    """
    uniform = keras.random.uniform(ops.shape(weights), dtype="float32", seed=_Given(seed))
    return ops.where(uniform >= rate, weights / (1 - rate), ops.zeros_like(weights))
