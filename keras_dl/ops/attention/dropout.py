"""Dropout with an explicit seed."""

import keras
from keras import ops


class _Given(keras.random.SeedGenerator):
    """A generator that returns a given seed; `keras.random` accepts seed tensors only from generators."""

    def __init__(self, seed):
        self.seed = seed

    def next(self, ordered=True):
        return self.seed


def dropout(weights, rate, seed):
    """Sets a random fraction of the weights to zero and scales up the others, which keeps the mean.

    Args:
        weights: float tensor.
        rate: float in [0, 1), the fraction to drop.
        seed: int tensor `[2]`, as returned by `keras.random.SeedGenerator.next()`.

    Returns:
        float tensor of the shape and dtype of the weights.

    Example:

    >>> import numpy as np
    >>> sorted(set(dropout(np.ones(100), 0.5, np.array([1, 2])).numpy().tolist()))
    [0.0, 2.0]
    """
    uniform = keras.random.uniform(ops.shape(weights), dtype="float32", seed=_Given(seed))
    return ops.where(uniform >= rate, weights / (1 - rate), ops.zeros_like(weights))
