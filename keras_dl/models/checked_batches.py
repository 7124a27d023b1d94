"""What models with a solved readout accept as data, and how it is told what is wrong with it."""

import keras
import numpy as np
from keras import ops


class CheckedBatches:
    """Batches with targets and weights, checked before anything is learnt from them, for `EchoStateNetwork`.

    Example:

    >>> from keras_dl.layers import ESN
    >>> from keras_dl.models import EchoStateNetwork
    >>> model = EchoStateNetwork(ESN(20, seed=1), units=1)
    >>> model.fit(np.array([[[1.0], [np.nan], [3.0]]]), verbose=0)
    Traceback (most recent call last):
    ValueError: Expected finite inputs in batch 0. Received: nan at [0, 1, 0]
    """

    def _examples(self, x, y, weight):
        """A batch with its targets: the next step if there are none."""
        x, weight = ops.convert_to_numpy(x), None if weight is None else ops.convert_to_numpy(weight)
        if y is None:
            if self.recurrent and self.reservoir.stateful:  # the last step of each part would never be heard
                raise ValueError("A stream needs targets: expected (x, y) for a stateful reservoir. Received: no y")
            weight = weight[:, 1:] if weight is not None and weight.ndim == 2 else weight
            if self.mask_value is not None and x.ndim == 3:  # padding is nothing to forecast
                known = ops.convert_to_numpy(self.padding_mask(x))[:, 1:].astype("float32")
                weight = known if weight is None else known * weight.reshape(len(x), -1)
            x, y = x[:, :-1], x[:, 1:]
        return x, ops.convert_to_numpy(y), weight

    def _checked(self, number, x, y, weight):
        """A batch as `(x, y, mask, which steps count, weights [B, T])`, y as numbers `[B, T, K]` or `[B, K]`."""
        where = f"in batch {number}"
        if x.ndim != 3 or 0 in x.shape:
            raise ValueError(f"Expected inputs [B, T, D] {where}. Received: shape {x.shape}")
        if self.built and x.shape[-1] != self.input_features:
            raise ValueError(f"Expected {self.input_features} features {where}. Received: shape {x.shape}")
        stateful = self.recurrent and self.reservoir.stateful
        if self.stream() and len(x) != self.stream()[0].shape[0]:
            raise ValueError(f"Expected {self.stream()[0].shape[0]} series {where}, as before. Received: {len(x)}")
        mask = self.padding_mask(x)
        mask = np.ones(x.shape[:2], bool) if mask is None else ops.convert_to_numpy(mask)
        counted = mask & (np.cumsum(mask, 1) + np.reshape(self._passed, (-1, 1)) > self.washout)
        if not stateful and not counted.any(1).all():
            few = mask.sum(1).min()
            raise ValueError(f"Expected more steps than the washout of {self.washout} {where}. Received: {few}")
        shape = (len(x), self.units) if self.pooling else (*x.shape[:2], self.units)
        if self.units == 1 and y.shape == shape[:-1]:
            y = y[..., None]
        if y.dtype.kind in "biu" and self.units > 1:
            y = y[..., 0] if y.shape == (*shape[:-1], 1) else y
            if y.shape == shape[:-1]:
                inside = mask if y.ndim == 2 else slice(None)
                if y[inside].size and not 0 <= y[inside].min() <= y[inside].max() < self.units:
                    raise ValueError(f"Expected classes from 0 to {self.units - 1} {where}. Received: {y[inside]}")
                y = np.eye(self.units)[y.clip(0, self.units - 1)]
        if y.shape != shape:
            raise ValueError(f"Expected targets {list(shape)} {where}. Received: shape {y.shape}")
        weight = np.ones(1) if weight is None else np.asarray(weight, "float64")
        right = weight.shape in [(1,), (len(x),), (len(x), 1), x.shape[:2]]
        if not right or (weight < 0).any() or not np.isfinite(weight).all():
            raise ValueError(f"Expected weights from 0, [B] or [B, T] {where}. Received: {weight}")
        weight = np.broadcast_to(weight if weight.ndim == 2 else weight[:, None], x.shape[:2])
        asked = mask & (weight > 0)
        for name, array, inside in (("inputs", x, mask), ("targets", y, weight[:, 0] > 0 if self.pooling else asked)):
            wrong = ~np.isfinite(array) & inside[..., None]
            if wrong.any():
                at = np.argwhere(wrong)[0]
                raise ValueError(f"Expected finite {name} {where}. Received: {array[tuple(at)]} at {at.tolist()}")
        if not self.built:
            self.build((len(x) if stateful else None, None, x.shape[-1]))
            self.built = True
        if stateful:
            self._passed = self._passed + mask.sum(1)
        return x, y, mask, counted, weight


def parts(batch):
    """`(x, y, sample_weight)` of what a data set yields.

    Example:

    >>> parts(("inputs", "targets"))
    ('inputs', 'targets', None)
    """
    batch = batch if isinstance(batch, tuple | list) else (batch,)
    return (*batch, None, None)[:3]


def cut_in_batches(x, y, sample_weight, batch_size):
    """Batches `(x, y, sample_weight)`, and how many, if that is known; for arguments as `fit` has them.

    Example:

    >>> batches, count = cut_in_batches(np.zeros((5, 3, 1)), None, None, batch_size=2)
    >>> [len(x) for x, _, _ in batches], count
    ([2, 2, 1], 3)
    """
    if hasattr(x, "shape"):  # an array
        starts = range(0, len(x), batch_size)
        cut = [None if array is None else ops.convert_to_numpy(array) for array in (x, y, sample_weight)]
        if any(array is not None and len(array) != len(x) for array in cut):
            raise ValueError(f"Expected as many targets and weights as inputs. Received: {[np.shape(a) for a in cut]}")
        return ([None if a is None else a[s : s + batch_size] for a in cut] for s in starts), len(starts)
    if y is not None or sample_weight is not None:
        raise ValueError("A data set yields targets and weights itself. Received: `y` or `sample_weight` beside it")
    if isinstance(x, keras.utils.PyDataset):
        return (parts(x[number]) for number in range(x.num_batches)), x.num_batches
    if hasattr(x, "cardinality") and int(x.cardinality()) == -1:
        raise ValueError("Expected data that end. Received: a data set that repeats for ever")
    try:
        steps = len(x)
    except TypeError:
        steps = None
    return (parts(batch) for batch in x), steps
