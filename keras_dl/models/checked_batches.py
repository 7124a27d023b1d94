"""Batches of training data for models with a solved readout, and their validation."""

import keras
import numpy as np
from keras import ops


def batch_parts(batch):
    """Splits an element of a data set into `(x, y, sample_weight)`, with None for missing parts.

    Example:

    >>> batch_parts(("inputs", "targets"))
    ('inputs', 'targets', None)
    """
    batch = batch if isinstance(batch, tuple | list) else (batch,)
    return (*batch, None, None)[:3]


def as_series(x, y=None, sample_weight=None):
    """Converts one series of one variable, or a list of series, to arrays of series; returns anything else unchanged.

    Args:
        x: array `[n, T, D]`, or `[T]` for one series of one variable; list of numbers, or of n series `[T]` or
            `[T, D]` of equal length; anything else, such as a data set, is returned unchanged.
        y: targets of x, or None.
        sample_weight: weights of x, or None.

    Raises:
        ValueError: if an array has another rank, or the series are of unequal length.

    Example:

    >>> [np.shape(array) for array in as_series([1.0, 2.0, 3.0], [1, 2, 3], [1, 1, 0])]
    [(1, 3, 1), (1, 3, 1), (1, 3)]
    """
    listed = isinstance(x, list) and x and all(not isinstance(part, tuple) and np.ndim(part) < 3 for part in x)
    if hasattr(x, "row_lengths") or (listed and len({np.shape(part) for part in x}) > 1):
        raise ValueError(
            "Expected an array [n, T, D] or batches. Received: series of unequal length; pad them "
            "(keras.utils.pad_sequences) and set `mask_value` to the value of the padding"
        )
    if listed:
        x, y = np.asarray(x), np.asarray(y) if isinstance(y, list) else y
        if x.ndim == 2:  # of one variable
            y = y[..., None] if np.shape(y) == x.shape else y
            x = x[..., None]
    if hasattr(x, "shape") and len(x.shape) == 1:
        shapes = (1, -1, 1), (1, x.shape[0], -1), (1, -1)
        arrays = zip((x, y, sample_weight), shapes, strict=True)
        x, y, sample_weight = (
            array if array is None else (ops if ops.is_tensor(array) else np).reshape(array, shape)
            for array, shape in arrays
        )
    if getattr(getattr(x, "dtype", None), "kind", None) in ("O", "S", "U"):
        raise ValueError(f"Expected numbers. Received: an array of dtype {x.dtype}")
    if hasattr(x, "shape") and len(x.shape) != 3:
        raise ValueError(
            f"Expected series [n, T, D], or [T] for one series of one variable. Received: shape {tuple(x.shape)}"
        )
    return x, y, sample_weight


def iterate_batches(x, y, sample_weight, batch_size):
    """Returns an iterator of `(x, y, sample_weight)` and the number of batches, or None if it is unknown.

    Example:

    >>> batches, count = iterate_batches(np.zeros((5, 3, 1)), None, None, batch_size=2)
    >>> [len(x) for x, _, _ in batches], count
    ([2, 2, 1], 3)
    """
    x, y, sample_weight = as_series(x, y, sample_weight)
    if hasattr(x, "shape"):  # an array
        starts = range(0, len(x), batch_size)
        arrays = [None if array is None else ops.convert_to_numpy(array) for array in (x, y, sample_weight)]
        if any(array is not None and len(array) != len(x) for array in arrays):
            shapes = [np.shape(array) for array in arrays]
            raise ValueError(f"Expected inputs, targets and weights of equal length. Received: shapes {shapes}")
        return ([None if a is None else a[s : s + batch_size] for a in arrays] for s in starts), len(starts)
    if y is not None or sample_weight is not None:
        raise ValueError("`y` and `sample_weight` must be None if `x` is a data set. Received: a data set and arrays")
    if isinstance(x, keras.utils.PyDataset):
        return (batch_parts(x[number]) for number in range(x.num_batches)), x.num_batches
    if hasattr(x, "cardinality") and int(x.cardinality()) == -1:
        raise ValueError("Expected a finite data set. Received: a data set that repeats forever")
    try:
        steps = len(x)
    except TypeError:
        steps = None
    return (batch_parts(batch) for batch in x), steps


def with_targets(model, x, y, weight):
    """Returns a batch as arrays. Without targets, the targets are the next steps of the inputs.

    Example:

    >>> from keras_dl.layers import ESN
    >>> from keras_dl.models import EchoStateNetwork
    >>> x, y, _ = with_targets(EchoStateNetwork(ESN(20, seed=1), units=1), np.zeros((4, 10, 1)), None, None)
    >>> x.shape, y.shape
    ((4, 9, 1), (4, 9, 1))
    """
    x, weight = ops.convert_to_numpy(x), None if weight is None else ops.convert_to_numpy(weight)
    if y is None:
        if model.stateful_reservoir:  # the last step of each part of the stream would be dropped
            raise ValueError("A stateful reservoir requires targets: expected (x, y). Received: no y")
        weight = weight[:, 1:] if weight is not None and weight.ndim == 2 else weight
        if model.mask_value is not None and x.ndim == 3:  # padding is not a target
            known = ops.convert_to_numpy(model.padding_mask(x))[:, 1:].astype("float32")
            weight = known if weight is None else known * weight.reshape(len(x), -1)
        x, y = x[:, :-1], x[:, 1:]
    return x, ops.convert_to_numpy(y), weight


def check_batch(model, number, x, y, weight, steps_read=0):
    """Checks a batch from `with_targets` and converts its targets and weights to a common form.

    Args:
        model: `EchoStateNetwork`.
        number: int, the batch number, for error messages.
        x, y, weight: see `with_targets`.
        steps_read: int or int array `[B]`, steps of the stream read before, which count toward the washout. Defaults to
            0.

    Returns:
        `(x, y, mask, counted, weight)`: y float `[B, T, K]`, or `[B, K]` with pooling; `mask` and `counted` bool
        `[B, T]`, False at padding, and at padding and washout; weight float `[B, T]`.

    Raises:
        ValueError: for wrong shapes, classes or weights, non-finite values, or sequences within the washout.

    Example:

    >>> from keras_dl.layers import ESN
    >>> from keras_dl.models import EchoStateNetwork
    >>> model = EchoStateNetwork(ESN(20, seed=1), units=1)
    >>> check_batch(model, 0, np.array([[[1.0], [np.nan], [3.0]]]), np.zeros((1, 3)), None)
    Traceback (most recent call last):
    ValueError: Expected finite inputs in batch 0. Received: nan at [0, 1, 0]
    """
    where = f"in batch {number}"
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"Expected inputs [B, T, D] {where}. Received: shape {x.shape}")
    if model.built and x.shape[-1] != model.input_features:
        raise ValueError(f"Expected {model.input_features} features {where}. Received: shape {x.shape}")
    if model.stream() and len(x) != (series := model.stream()[0].shape[0]):
        raise ValueError(f"Expected {series} series {where}, as in earlier batches. Received: {len(x)}")
    mask = model.padding_mask(x)
    mask = np.ones(x.shape[:2], bool) if mask is None else ops.convert_to_numpy(mask)
    counted = mask & (np.cumsum(mask, 1) + np.reshape(steps_read, (-1, 1)) > model.washout)
    if not model.stateful_reservoir and not counted.any(1).all():
        shortest = mask.sum(1).min()
        raise ValueError(f"Expected more steps than the washout of {model.washout} {where}. Received: {shortest}")
    y = _check_targets(model, y, mask, where)
    weight = np.ones(1) if weight is None else np.asarray(weight, "float64")
    valid = weight.shape in [(1,), (len(x),), (len(x), 1), x.shape[:2]]
    if not valid or (weight < 0).any() or not np.isfinite(weight).all():
        raise ValueError(f"Expected finite weights >= 0 of shape [B] or [B, T] {where}. Received: {weight}")
    weight = np.broadcast_to(weight if weight.ndim == 2 else weight[:, None], x.shape[:2])
    weighted = weight[:, 0] > 0 if model.pooling else mask & (weight > 0)
    for name, array, valid in (("inputs", x, mask), ("targets", y, weighted)):
        wrong = ~np.isfinite(array) & valid[..., None]
        if wrong.any():
            at = np.argwhere(wrong)[0]
            raise ValueError(f"Expected finite {name} {where}. Received: {array[tuple(at)]} at {at.tolist()}")
    return x, y, mask, counted, weight


def _check_targets(model, y, mask, where):
    """Returns numeric targets `[B, T, K]`, or `[B, K]` with pooling; integer classes become one-hot vectors."""
    shape = (len(mask), model.units) if model.pooling else (*mask.shape, model.units)
    if model.units == 1 and y.shape == shape[:-1]:
        y = y[..., None]
    if y.dtype.kind in "biu" and model.units > 1:
        y = y[..., 0] if y.shape == (*shape[:-1], 1) else y
        if y.shape == shape[:-1]:
            valid = mask if y.ndim == 2 else slice(None)
            if y[valid].size and not 0 <= y[valid].min() <= y[valid].max() < model.units:
                raise ValueError(f"Expected classes from 0 to {model.units - 1} {where}. Received: {y[valid]}")
            y = np.eye(model.units)[y.clip(0, model.units - 1)]
    if y.shape != shape:
        raise ValueError(f"Expected targets {list(shape)} {where}. Received: shape {y.shape}")
    return y
