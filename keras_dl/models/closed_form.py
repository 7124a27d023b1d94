"""`fit` for models whose readout is solved rather than trained."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_dl.models.checked_batches import CheckedBatches, cut_in_batches, parts
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


class ClosedFormFit(OnlineFit, CheckedBatches):
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
        batches, steps = cut_in_batches(x, y, sample_weight, batch_size)
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
                scores = self.evaluate(
                    (tuple(part for part in batch if part is not None) for batch in examples),
                    verbose=0,
                    return_dict=True,
                )
            logs |= {f"val_{name}": value for name, value in scores.items()}
        elif not self.stream():  # Keras exports no model that was never called
            self(ops.zeros((1, 1, self.input_features), self.compute_dtype))
        callbacks.on_epoch_end(initial_epoch, logs)
        callbacks.on_train_end(logs)
        return self.history

    def partial_fit(self, x, y=None, sample_weight=None, batch_size=32, solver="ridge", forgetting=1.0):
        """Learns from more data, as if they had been part of the first `fit`; arguments as there.

        What is learnt from is kept in memory, not in saved models: after loading, `fit` anew.
        """
        self._check_solver(solver, forgetting, None)
        batches, _ = cut_in_batches(x, y, sample_weight, batch_size)
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
                logs, online = self._learn_online(batches, forgetting, callbacks, kept)
                self._check_validation(validation, batch_size)
                self._online = online
                solution = ops.convert_to_numpy(self._online[0])
                self.readout.kernel.assign(solution[:-1])
                self.readout.bias.assign(solution[-1])
                self.readout.statistics = None
                return logs
            return self._learn_ridge(batches, kept, validation, batch_size, callbacks)

    def _learn_ridge(self, batches, kept, validation, batch_size, callbacks):
        seen = None
        for number, rows in enumerate(self._rows(batches, training=True)):
            if callbacks:
                callbacks.on_train_batch_begin(number)
            for features, targets, weights in rows:
                if not np.isfinite(features).all():
                    raise ValueError(
                        f"Expected finite states of the reservoir in batch {number}; a smaller radius or a bounded "
                        f"activation keeps them so. Received: {features[~np.isfinite(features)][0]}"
                    )
                if seen is None:
                    seen = RidgeStatistics(features.shape[1], targets.shape[1])
                seen.add(features, targets, weights)
            if callbacks:
                callbacks.on_train_batch_end(number)
        if seen is None:
            raise ValueError("Expected at least one batch. Received: none")
        if kept is not None:
            seen.merge(kept)
        if np.size(self.readout.alpha) == 1:  # else it is checked while the best alpha is looked for
            self._check_validation(validation, batch_size)
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

    def _check_validation(self, validation, batch_size):
        """Before anything changes: numbers of what cannot be measured would look perfect."""
        if validation is not None:
            with self._states_kept():
                for number, batch in enumerate(self._validation_batches(validation, batch_size)):
                    self._checked(number, *self._examples(*batch))

    def _validation_rows(self, validation, batch_size):
        if validation is None:
            return None
        batches = self._validation_batches(validation, batch_size)
        return (row for rows in self._rows(batches, training=False) for row in rows)

    @staticmethod
    def _validation_batches(validation, batch_size):
        arrays = parts(validation) if isinstance(validation, tuple | list) else (validation, None, None)
        return cut_in_batches(*arrays, batch_size)[0]

    def _rows(self, batches, training):
        """For each batch an iterator of `(features [n, F], targets [n, K], weights [n] or None)`."""
        for number, batch in enumerate(batches):
            yield self._rows_of(*self._checked(number, *self._examples(*batch)), training)

    def _rows_of(self, x, y, mask, counted, weight, training):
        if self.feedback:  # the output of the last step that was not masked, as the model hears its own
            last = np.maximum.accumulate(np.where(mask, np.arange(x.shape[1]), -1), 1)
            teacher = np.take_along_axis(y, np.maximum(last, 0)[..., None], 1) * (last >= 0)[..., None]
            teacher = np.concatenate([np.zeros_like(y[:, :1]), teacher[:, :-1]], 1)
            x = np.concatenate([x, np.nan_to_num(teacher)], -1)
        whole = mask.all()  # a loop without a mask is faster
        if self.pooling in ("last", "mean"):
            features, _ = self.features(
                _cast(self, x), mask=None if whole else ops.convert_to_tensor(mask), training=training
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
            features, states = self.features(_cast(self, x[:, now]), states, steps, training=training)
            keep = counted[:, now] & (weight[:, now] > 0)
            features, weights = ops.convert_to_numpy(features)[keep], weight[:, now][keep]
            yield features, y[:, now][keep], None if (weights == 1).all() else weights


def _cast(model, array):
    return ops.convert_to_tensor(array.astype(keras.backend.standardize_dtype(model.compute_dtype)))
