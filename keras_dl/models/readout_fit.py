"""Solving the readout of an `EchoStateNetwork`: ridge regression, or recursive least squares step by step."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_dl.models.checked_batches import batch_parts, check_batch, iterate_batches, with_targets
from keras_dl.ops.recursive_least_squares import recursive_least_squares
from keras_dl.ops.ridge import RidgeStatistics
from keras_dl.ops.scan import scan

# Feature values per chunk of a long sequence: 64 MB in float32, 128 MB in float64.
CHUNK_VALUES = 2**24


@keras.saving.register_keras_serializable("keras_dl")
def readout_error(y_true, y_pred):
    """Returns the squared error. Integers without the last axis are classes, as in `EchoStateNetwork.fit`.

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


class ReadoutFit:
    """Implements `fit` and `partial_fit` of an `EchoStateNetwork`, which documents the arguments.

    It stores what `partial_fit` needs to continue: the state of recursive least squares and the position in the stream
    of a stateful reservoir. The statistics of ridge regression are kept in the readout layer.

    Args:
        model: `EchoStateNetwork`.

    Example:

    >>> from keras_dl.layers import ESN
    >>> from keras_dl.models import EchoStateNetwork
    >>> wave = np.sin(0.2 * np.arange(300)).reshape(1, -1, 1)
    >>> model = EchoStateNetwork(ESN(50, seed=1), units=1, alpha=1e-4, washout=20)
    >>> history = ReadoutFit(model).fit(wave, solver="rls", forgetting=0.999, verbose=0)
    >>> history.history["loss"][0] < 0.01
    True
    """

    def __init__(self, model):
        self.model = model
        self._online = None  # kernel and covariance of recursive least squares
        self._online_function = None
        self._steps_read = 0  # of each series of a stream, for the washout

    def fit(
        self,
        x,
        y=None,
        sample_weight=None,
        batch_size=32,
        verbose="auto",
        callbacks=None,
        validation_data=None,
        initial_epoch=0,
        solver="ridge",
        forgetting=1.0,
    ):
        model = self.model
        self._check_solver(solver, forgetting, validation_data)
        if not model.compiled:
            model.compile(loss=readout_error, metrics=["accuracy"] if model.pooling and model.units > 1 else None)
        batches, steps = iterate_batches(x, y, sample_weight, batch_size)
        callbacks = keras.callbacks.CallbackList(
            callbacks, add_history=True, add_progbar=verbose != 0, verbose=verbose, epochs=1, steps=steps, model=model
        )
        model.stop_training = False
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(initial_epoch)
        logs = self._learn(batches, solver, forgetting, validation_data, batch_size, callbacks, restart=True)
        if validation_data is not None:
            logs |= {f"val_{name}": value for name, value in self._evaluate(validation_data, batch_size).items()}
        elif not model.stream():  # Keras cannot export a model that has never been called
            model(ops.zeros((1, 1, model.input_features), model.compute_dtype))
        callbacks.on_epoch_end(initial_epoch, logs)
        callbacks.on_train_end(logs)
        return model.history

    def partial_fit(self, x, y=None, sample_weight=None, batch_size=32, solver="ridge", forgetting=1.0):
        self._check_solver(solver, forgetting, None)
        batches, _ = iterate_batches(x, y, sample_weight, batch_size)
        self._learn(batches, solver, forgetting, None, batch_size, None, restart=False)

    def _check_solver(self, solver, forgetting, validation):
        model, alphas = self.model, np.size(self.model.readout.alpha)
        if solver not in ("ridge", "rls"):
            raise ValueError(f"`solver` must be 'ridge' or 'rls'. Received: {solver!r}")
        if not 0 < forgetting <= 1:
            raise ValueError(f"`forgetting` must be above 0 and at most 1. Received: {forgetting!r}")
        if alphas > 1 and (solver == "rls" or validation is None):
            raise ValueError(
                f"Choosing among {alphas} values of alpha requires solver='ridge' and validation data. "
                f"Received: solver={solver!r}, validation_data={'given' if validation is not None else None}"
            )
        if solver == "rls" and model.pooling:
            raise ValueError(f"'rls' learns at each step: expected pooling=None. Received: {model.pooling!r}")
        if solver == "rls" and not model.recurrent:
            raise ValueError(f"'rls' requires a recurrent reservoir. Received: {model.reservoir.name}")

    def _learn(self, batches, solver, forgetting, validation, batch_size, callbacks, restart):
        model = self.model
        with self._restored_stream(only_on_error=True):
            previous = None if restart else self._online if solver == "rls" else model.readout.statistics
            if not restart and previous is None and model.built and np.any(ops.convert_to_numpy(model.readout.kernel)):
                raise ValueError(
                    "`partial_fit` requires the training state of an earlier `fit` with the same solver. Received: a "
                    "model without it, because it was loaded or fitted with a different solver"
                )
            if restart and model.stream():
                model.reservoir.reset_state()
            if not any(np.any(ops.convert_to_numpy(state)) for state in model.stream()):
                self._steps_read = 0
            if solver == "ridge":
                return self._learn_ridge(batches, previous, validation, batch_size, callbacks)
            logs, online = self._learn_online(batches, forgetting, callbacks, previous)
            self._check_validation(validation, batch_size)
            self._online = online
            solution = ops.convert_to_numpy(online[0])
            model.readout.kernel.assign(solution[:-1])
            model.readout.bias.assign(solution[-1])
            model.readout.statistics = None
            return logs

    def _learn_ridge(self, batches, previous, validation, batch_size, callbacks):
        readout, statistics = self.model.readout, None
        for number, rows in enumerate(self._rows(batches, training=True)):
            if callbacks:
                callbacks.on_train_batch_begin(number)
            for features, targets, weights in rows:
                if not np.isfinite(features).all():
                    raise ValueError(
                        f"Expected finite states of the reservoir in batch {number}; use a smaller spectral radius or "
                        f"a bounded activation. Received: {features[~np.isfinite(features)][0]}"
                    )
                if statistics is None:
                    statistics = RidgeStatistics(features.shape[1], targets.shape[1])
                statistics.add(features, targets, weights)
            if callbacks:
                callbacks.on_train_batch_end(number)
        if statistics is None:
            raise ValueError("Expected at least one batch. Received: none")
        if previous is not None:
            statistics.merge(previous)
        if np.size(readout.alpha) == 1:  # otherwise the choice of alpha checks it
            self._check_validation(validation, batch_size)
        before, readout.statistics = readout.statistics, statistics
        try:
            with self._restored_stream():
                alpha = readout.solve(self._validation_rows(validation, batch_size))
        except Exception:
            readout.statistics = before
            raise
        self._online = None
        kernel = ops.convert_to_numpy(readout.kernel).astype("float64")
        return {"loss": statistics.mean_squared_error(kernel), "alpha": alpha}

    def _learn_online(self, batches, forgetting, callbacks, solution):
        """Returns the logs and the new `(kernel, covariance)`; `solution` is the previous one or None."""
        model = self.model
        errors = count = 0.0
        if self._online_function is None:
            self._online_function = _compiled(self._online_steps)
        for number, batch in enumerate(batches):
            if callbacks:
                callbacks.on_train_batch_begin(number)
            x, y, mask, counted, weight = self._next_batch(number, batch)
            if solution is None:
                size = model.readout.kernel.shape[0] + 1
                solution = np.zeros((size, model.units)), np.eye(size) / max(np.ravel(model.readout.alpha)[0], 1e-12)
            root = np.sqrt(counted * weight)
            x = np.where(mask[..., None], x, 0).astype(keras.backend.standardize_dtype(model.compute_dtype))
            y = np.where(root[..., None] > 0, y, 0).astype("float64")
            states = [variable.value for variable in model.stream()] or model.reservoir.get_initial_state(len(x))
            inputs = [np.swapaxes(array, 0, 1) for array in (x, y, mask, root)]
            outputs, states, *solution = self._online_function(inputs, states, *solution, float(forgetting))
            for variable, state in zip(model.stream(), states, strict=False):
                variable.assign(state)
            wrong = (ops.convert_to_numpy(outputs) - inputs[1])[inputs[3] > 0]
            errors, count = errors + np.square(wrong).sum(), count + wrong.size
            if callbacks:
                callbacks.on_train_batch_end(number, {"loss": errors / max(count, 1)})
        if not count:
            raise ValueError("Expected at least one step after washout and masks. Received: none")
        if not np.isfinite(ops.convert_to_numpy(solution[0])).all():
            raise ValueError("Recursive least squares diverged; use a larger alpha or a forgetting closer to 1")
        return {"loss": errors / count}, tuple(solution)

    def _online_steps(self, inputs, states, kernel, covariance, forgetting):
        model = self.model

        def step(carry, slices):
            output, kernel, covariance, *old = carry
            x, y, mask, root = slices
            x = ops.concatenate([x, ops.cast(output, x.dtype)], -1) if model.feedback else x
            states, new = model.reservoir.cell(x, old, training=True)
            new = new if isinstance(new, list | tuple) else [new]
            new = [ops.where(mask[:, None], a, b) for a, b in zip(new, old, strict=True)]
            features = ops.cast(model.readout_inputs(x, states), "float64")
            features = ops.concatenate([features, ops.ones_like(features[:, :1])], -1)
            output = ops.where(mask[:, None], ops.matmul(features, kernel), output)
            # A weight scales the row and its target by its square root; rows of zeros have no effect.
            root = ops.expand_dims(root, -1)
            updated = recursive_least_squares(kernel, covariance, features * root, y * root, forgetting)
            any_weight = ops.any(root > 0)
            kernel, covariance = (
                ops.where(any_weight, a, b) for a, b in zip(updated, (kernel, covariance), strict=True)
            )
            return [output, kernel, covariance, *new]

        start = ops.zeros_like(inputs[1][0])
        (_, kernel, covariance, *states), outputs = scan(step, [start, kernel, covariance, *states], inputs)
        return outputs, states, kernel, covariance

    @contextlib.contextmanager
    def _restored_stream(self, only_on_error=False):
        """Restores the states of a stateful reservoir on exit, or only if the block raises."""
        stream = self.model.stream
        before, steps_read = [ops.convert_to_numpy(state).copy() for state in stream()], self._steps_read
        keep = False
        try:
            yield
            keep = only_on_error
        finally:
            if not keep:
                self._steps_read = steps_read
                for number, variable in enumerate(stream()):
                    variable.assign(before[number] if before else ops.zeros_like(variable))

    def _evaluate(self, validation, batch_size):
        examples = (with_targets(self.model, *batch) for batch in _validation_batches(validation, batch_size))
        with self._restored_stream(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your input ran out of data")  # Keras warns after any generator
            return self.model.evaluate(
                (tuple(part for part in batch if part is not None) for batch in examples), verbose=0, return_dict=True
            )

    def _check_validation(self, validation, batch_size):
        """Checks the validation data before anything changes; without this check, invalid data would score
        perfectly."""
        if validation is not None:
            with self._restored_stream():
                for number, batch in enumerate(_validation_batches(validation, batch_size)):
                    self._next_batch(number, batch)

    def _validation_rows(self, validation, batch_size):
        if validation is None:
            return None
        batches = _validation_batches(validation, batch_size)
        return (row for rows in self._rows(batches, training=False) for row in rows)

    def _next_batch(self, number, batch):
        """Checks a batch, builds the model on the first one, and advances the position in the stream."""
        model = self.model
        checked = check_batch(model, number, *with_targets(model, *batch), self._steps_read)
        x, _, mask, _, _ = checked
        if not model.built:
            model.build((len(x) if model.stateful_reservoir else None, None, x.shape[-1]))
            model.built = True
        if model.stateful_reservoir:
            self._steps_read = self._steps_read + mask.sum(1)
        return checked

    def _rows(self, batches, training):
        """Yields for each batch an iterator of `(features [n, F], targets [n, K], weights [n] or None)`."""
        for number, batch in enumerate(batches):
            yield self._rows_of(*self._next_batch(number, batch), training)

    def _rows_of(self, x, y, mask, counted, weight, training):
        model = self.model
        if model.feedback:  # teacher forcing: the target of the last unmasked step
            last = np.maximum.accumulate(np.where(mask, np.arange(x.shape[1]), -1), 1)
            teacher = np.take_along_axis(y, np.maximum(last, 0)[..., None], 1) * (last >= 0)[..., None]
            teacher = np.concatenate([np.zeros_like(y[:, :1]), teacher[:, :-1]], 1)
            x = np.concatenate([x, np.nan_to_num(teacher)], -1)
        x = x.astype(keras.backend.standardize_dtype(model.compute_dtype))
        tensor_mask = None if mask.all() else ops.convert_to_tensor(mask)  # a loop without a mask is faster
        if model.pooling in ("last", "mean"):
            features, _ = model.features(ops.convert_to_tensor(x), mask=tensor_mask, training=training)
            rows, weighted = model.pool(features, tensor_mask), weight[:, 0] > 0
            yield ops.convert_to_numpy(rows)[weighted], y[weighted], weight[weighted, 0]
            return
        if model.pooling == "vote":
            y = np.broadcast_to(y[:, None], (*x.shape[:2], model.units))
        width = len(x) * (model.readout.kernel.shape[0] + model.units)
        size = max(1, CHUNK_VALUES // width) if model.recurrent else x.shape[1]
        states = None
        for first in range(0, x.shape[1], size):
            chunk = slice(first, first + size)
            chunk_mask = None if tensor_mask is None else tensor_mask[:, chunk]
            features, states = model.features(ops.convert_to_tensor(x[:, chunk]), states, chunk_mask, training=training)
            keep = counted[:, chunk] & (weight[:, chunk] > 0)
            weights = weight[:, chunk][keep]
            yield ops.convert_to_numpy(features)[keep], y[:, chunk][keep], None if (weights == 1).all() else weights


def _validation_batches(validation, batch_size):
    arrays = batch_parts(validation) if isinstance(validation, tuple | list) else (validation, None, None)
    return iterate_batches(*arrays, batch_size)[0]


def _compiled(function):
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)
