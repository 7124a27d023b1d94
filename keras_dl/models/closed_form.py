"""`fit` for models whose readout is solved rather than trained."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_dl.models.online_fit import OnlineFit
from keras_dl.ops.ridge import RidgeStatistics

# Numbers in one part of the features of a long sequence: 64 MB of float32, and twice that in float64.
PART = 2**24


@keras.saving.register_keras_serializable("keras_dl")
def readout_error(y_true, y_pred):
    """The squared error; whole numbers without the last axis are classes, as in `ClosedFormFit.fit`.

    Example:

    >>> ops.convert_to_numpy(readout_error(np.array([1, 0]), np.array([[0.0, 1.0], [0.0, 1.0]])))
    array([0., 1.])
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true, classes = ops.convert_to_tensor(y_true), y_pred.shape[-1]
    if classes > 1 and len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    if len(y_true.shape) < len(y_pred.shape):
        y_true = ops.one_hot(ops.cast(y_true, "int32"), classes) if classes > 1 else ops.expand_dims(y_true, -1)
    return ops.mean(ops.square(ops.cast(y_true, y_pred.dtype) - y_pred), -1)


class ClosedFormFit(OnlineFit):
    """`fit`, `partial_fit` and what they need, for `EchoStateNetwork`.

    Example:

    >>> from keras_dl.layers import ESN
    >>> from keras_dl.models import EchoStateNetwork
    >>> x = np.random.default_rng(0).uniform(size=(4, 100, 1))
    >>> model = EchoStateNetwork(ESN(20, seed=1), units=1, washout=10)
    >>> model.partial_fit(x[:2], 2 * x[:2])
    >>> model.partial_fit(x[2:], 2 * x[2:])
    >>> kernel, _ = model.readout.get_weights()
    >>> history = model.fit(x, 2 * x, verbose=0)
    >>> bool(np.allclose(kernel, model.readout.get_weights()[0], atol=1e-6))
    True
    """

    _online = None  # of recursive least squares: the kernel and the covariance
    _passed = 0  # steps that each series of a stream has gone through, for the washout

    def fit(
        self,
        x,
        y=None,
        batch_size=32,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_data=None,
        shuffle=None,
        sample_weight=None,
        initial_epoch=0,
        solver="ridge",
        forgetting=1.0,
    ):
        """Solves the readout in one pass over the data, of any size; what was learnt before is forgotten.

        Args:
            x: a `tf.data.Dataset`, or another iterable, of batches `x`, `(x, y)` or `(x, y, sample_weight)`; or an
                array `[n, T, D]`.
            y: targets if x is an array: `[n, T, K]`, or `[n, K]` with `pooling`; whole numbers without the last axis
                are classes. None (default): the next step of x.
            batch_size: int, for arrays. Defaults to 32.
            epochs: without effect: one pass finds the solution.
            verbose: as for every Keras model.
            callbacks: list of Keras callbacks; there is one epoch, whose logs are `loss`, the mean squared error on
                the training data, `alpha`, and the validation's metrics with `val_` before their names.
            validation_data: as x, or a tuple of arrays; it is read twice. Chooses among several alphas. With a stateful
                reservoir it goes on where the training data end, and the stream stays there.
            shuffle: without effect: the order of sequences does not matter.
            sample_weight: `[n]` or `[n, T]`, if x is an array. What has weight 0 may be NaN.
            initial_epoch: the number that callbacks see. Defaults to 0.
            solver: `"ridge"` (default), or `"rls"`: recursive least squares, which learns at each step, and with a
                reservoir with feedback is FORCE learning: the model hears its own outputs while it learns. `loss` is
                then the error before each step's learning.
            forgetting: float above 0, to 1 (default), for `"rls"`: the weight of what is n steps old is its power n.

        Returns:
            A `keras.callbacks.History` of one epoch.

        Raises:
            ValueError: for numbers that are not finite (with the batch), sequences that end before the washout, shapes
                that do not fit, several alphas without validation data; the model stays as it was.

        Reference: FORCE: Sussillo and Abbott 2009, "Generating coherent patterns of activity from chaotic networks".
        """
        self._check_solver(solver, forgetting, validation_data)
        if not self.compiled:
            self.compile(loss=readout_error, metrics=["accuracy"] if self.pooling and self.units > 1 else None)
        batches, steps = _batches(x, y, sample_weight, batch_size)
        callbacks = keras.callbacks.CallbackList(
            callbacks, add_history=True, add_progbar=verbose != 0, verbose=verbose, epochs=1, steps=steps, model=self
        )
        self.stop_training = False
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(initial_epoch)
        logs = self._learn(batches, solver, forgetting, validation_data, batch_size, callbacks, afresh=True)
        if validation_data is not None:
            examples = (self._examples(*batch) for batch in self._validation_batches(validation_data, batch_size))
            with self._states_kept(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Your input ran out of data")  # a generator of unknown length does
                scores = self.evaluate((_given(parts) for parts in examples), verbose=0, return_dict=True)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        callbacks.on_epoch_end(initial_epoch, logs)
        callbacks.on_train_end(logs)
        return self.history

    def partial_fit(self, x, y=None, sample_weight=None, batch_size=32, solver="ridge", forgetting=1.0):
        """Learns from more data, as if they had been part of the first `fit`; arguments as there.

        What is learnt from is kept in memory, not in saved models: after loading, `fit` anew.
        """
        self._check_solver(solver, forgetting, None)
        batches, _ = _batches(x, y, sample_weight, batch_size)
        self._learn(batches, solver, forgetting, None, batch_size, None, afresh=False)

    def check_fitted(self):
        """Raises a ValueError if the readout was never solved; asked outside of graphs only."""
        if not self.built:
            raise ValueError("Expected a model that is fitted. Received: one that has seen no data; call `fit` first")
        kernel = self.readout.kernel.value
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if not tf.executing_eagerly():
                return
        if not np.any(ops.convert_to_numpy(kernel)) and not np.any(ops.convert_to_numpy(self.readout.bias.value)):
            raise ValueError("Expected a model that is fitted. Received: one whose readout is zero; call `fit` first")

    def _check_solver(self, solver, forgetting, validation):
        if solver not in ("ridge", "rls"):
            raise ValueError(f"`solver` must be 'ridge' or 'rls'. Received: {solver!r}")
        if not 0 < forgetting <= 1:
            raise ValueError(f"`forgetting` must be above 0, to 1. Received: {forgetting!r}")
        several = np.size(self.readout.alpha) > 1
        if several and (solver == "rls" or validation is None):
            raise ValueError(
                f"alpha is chosen among {np.size(self.readout.alpha)} by ridge regression on validation data. "
                f"Received: solver={solver!r}, validation_data={'given' if validation is not None else None}"
            )
        if solver == "rls" and self.pooling:
            raise ValueError(f"'rls' learns at each step: expected pooling=None. Received: {self.pooling!r}")
        if solver == "rls" and not self.recurrent:
            raise ValueError(f"'rls' needs a recurrent reservoir. Received: {self.reservoir.name}")

    def _learn(self, batches, solver, forgetting, validation, batch_size, callbacks, afresh):
        with self._states_kept(unless_done=True):
            kept = None if afresh else self._online if solver == "rls" else self.readout.statistics
            if not afresh and kept is None and self.built and np.any(ops.convert_to_numpy(self.readout.kernel)):
                raise ValueError(
                    "A loaded model, or one of another solver, has not kept what it learnt from. Expected: `fit` "
                    "before `partial_fit`. Received: none"
                )
            if afresh and self.stream():
                self.reservoir.reset_state()
            if not any(np.any(ops.convert_to_numpy(state)) for state in self.stream()):
                self._passed = 0
            if solver == "rls":
                logs, self._online = self._learn_online(batches, forgetting, callbacks, kept)
                solution = ops.convert_to_numpy(self._online[0])
                self.readout.kernel.assign(solution[:-1])
                self.readout.bias.assign(solution[-1])
                self.readout.statistics = None
                return logs
            return self._learn_ridge(batches, kept, validation, batch_size, callbacks)

    def _learn_ridge(self, batches, kept, validation, batch_size, callbacks):
        seen = None
        for number, rows in enumerate(self._rows(batches)):
            if callbacks:
                callbacks.on_train_batch_begin(number)
            for features, targets, weights in rows:
                if seen is None:
                    seen = RidgeStatistics(features.shape[1], targets.shape[1])
                seen.add(features, targets, weights)
            if callbacks:
                callbacks.on_train_batch_end(number)
        if seen is None:
            raise ValueError("Expected at least one batch. Received: none")
        if kept is not None:
            seen.merge(kept)
        before, self.readout.statistics = self.readout.statistics, seen
        try:
            with self._states_kept():
                alpha = self.readout.solve(self._validation_rows(validation, batch_size))
        except Exception:
            self.readout.statistics = before
            raise
        self._online = None
        kernel = ops.convert_to_numpy(self.readout.kernel).astype("float64")
        return {"loss": seen.mean_squared_error(kernel), "alpha": alpha}

    def stream(self):
        """The variables that hold the states of a stateful reservoir; none of another."""
        states = self.reservoir.states if self.recurrent and self.reservoir.stateful else None
        return [] if states is None else keras.tree.flatten(states)

    @contextlib.contextmanager
    def _states_kept(self, unless_done=False):
        """Puts the states of a stateful reservoir back afterwards, or only if what is done in between fails."""
        before, passed, done = [ops.convert_to_numpy(state).copy() for state in self.stream()], self._passed, False
        try:
            yield
            done = unless_done
        finally:
            if not done:
                self._passed = passed
                for number, variable in enumerate(self.stream()):
                    variable.assign(before[number] if before else ops.zeros_like(variable))

    def _validation_rows(self, validation, batch_size):
        if validation is None:
            return None
        return (row for rows in self._rows(self._validation_batches(validation, batch_size)) for row in rows)

    @staticmethod
    def _validation_batches(validation, batch_size):
        arrays = _parts(validation) if isinstance(validation, tuple | list) else (validation, None, None)
        return _batches(*arrays, batch_size)[0]

    def _rows(self, batches):
        """For each batch an iterator of `(features [n, F], targets [n, K], weights [n] or None)`."""
        for number, batch in enumerate(batches):
            yield self._rows_of(*self._checked(number, *self._examples(*batch)))

    def _examples(self, x, y, weight):
        """A batch with its targets: the next step if there are none."""
        x, weight = ops.convert_to_numpy(x), None if weight is None else ops.convert_to_numpy(weight)
        if y is None:
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

    def _rows_of(self, x, y, mask, counted, weight):
        if self.feedback:  # the output of the last step that was not masked, as the model hears its own
            last = np.maximum.accumulate(np.where(mask, np.arange(x.shape[1]), -1), 1)
            teacher = np.take_along_axis(y, np.maximum(last, 0)[..., None], 1) * (last >= 0)[..., None]
            teacher = np.concatenate([np.zeros_like(y[:, :1]), teacher[:, :-1]], 1)
            x = np.concatenate([x, np.nan_to_num(teacher)], -1)
        whole = mask.all()  # a loop without a mask is faster
        if self.pooling in ("last", "mean"):
            features, _ = self.features(
                _cast(self, x), mask=None if whole else ops.convert_to_tensor(mask), training=True
            )
            rows = self.pool(features, None if whole else ops.convert_to_tensor(mask))
            asked = weight[:, 0] > 0
            yield ops.convert_to_numpy(rows)[asked], y[asked], weight[asked, 0]
            return
        if self.pooling == "vote":
            y = np.broadcast_to(y[:, None], (*x.shape[:2], self.units))
        width = len(x) * (self.readout.kernel.shape[0] + self.units)
        part = max(1, PART // width) if self.recurrent else x.shape[1]
        states = None
        for first in range(0, x.shape[1], part):
            now = slice(first, first + part)
            steps = None if whole else ops.convert_to_tensor(mask[:, now])
            features, states = self.features(_cast(self, x[:, now]), states, steps, training=True)
            keep = counted[:, now] & (weight[:, now] > 0)
            features, weights = ops.convert_to_numpy(features)[keep], weight[:, now][keep]
            yield features, y[:, now][keep], None if (weights == 1).all() else weights


def _cast(model, array):
    return ops.convert_to_tensor(array.astype(keras.backend.standardize_dtype(model.compute_dtype)))


def _parts(batch):
    """`(x, y, sample_weight)` of what a data set yields."""
    batch = batch if isinstance(batch, tuple | list) else (batch,)
    return (*batch, None, None)[:3]


def _given(parts):
    return tuple(part for part in parts if part is not None)


def _batches(x, y, sample_weight, batch_size):
    """Batches `(x, y, sample_weight)`, and how many, if that is known."""
    if hasattr(x, "shape"):  # an array
        starts = range(0, len(x), batch_size)
        cut = [None if array is None else ops.convert_to_numpy(array) for array in (x, y, sample_weight)]
        if any(array is not None and len(array) != len(x) for array in cut):
            raise ValueError(f"Expected as many targets and weights as inputs. Received: {[np.shape(a) for a in cut]}")
        return ([None if a is None else a[s : s + batch_size] for a in cut] for s in starts), len(starts)
    if y is not None or sample_weight is not None:
        raise ValueError("A data set yields targets and weights itself. Received: `y` or `sample_weight` beside it")
    if isinstance(x, keras.utils.PyDataset):
        return (_parts(x[number]) for number in range(x.num_batches)), x.num_batches
    if hasattr(x, "cardinality") and int(x.cardinality()) == -1:
        raise ValueError("Expected data that end. Received: a data set that repeats for ever")
    try:
        steps = len(x)
    except TypeError:
        steps = None
    return (_parts(batch) for batch in x), steps
