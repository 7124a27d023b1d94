"""Rows whose labels do not fit into their frames: a warning, because they are easily overlooked in a mean."""

import warnings

import numpy as np
import tensorflow as tf

from keras_dl.compat.tensorflow import in_xla

_warned = set()


def warn_of_impossible_rows(possible, frames, needed):
    """Warns once per process about rows that do not contribute to a CTC loss.

    It also works in graphs, except under XLA, which cannot call Python.

    Args:
        possible: bool tensor `[B]`, whether a path fits the row.
        frames: int32 tensor `[B]`, the frames of each row.
        needed: int32 tensor `[B]`, the frames that its labels require; see `minimum_frames`.

    Example:

    >>> warn_of_impossible_rows(tf.constant([True]), tf.constant([5]), tf.constant([3]))
    """
    if tf.executing_eagerly():
        _warn(*(tensor.numpy() for tensor in (possible, frames, needed)))
    elif not in_xla():
        tensors = [possible, frames, needed]
        tf.cond(tf.reduce_all(possible), lambda: 0, lambda: tf.numpy_function(_warn, tensors, tf.int32))


def _warn(possible, frames, needed):
    if not possible.all() and not _warned:
        _warned.add(True)
        row = int(np.argmin(possible))
        warnings.warn(
            f"{int(np.sum(~possible))} of {len(possible)} rows of a batch do not contribute to the CTC loss, because "
            f"no path fits their labels: those of row {row} require {needed[row]} frames, and it has {frames[row]}. "
            "Use more frames (less pooling) or shorter labels; keras_dl.metrics.ImpossibleRows counts such rows. "
            "This warning is issued once.",
            stacklevel=2,
        )
    return np.int32(0)
