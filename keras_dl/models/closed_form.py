"""`fit` for models whose readout is solved rather than trained."""

import keras
import numpy as np
from keras import ops

from keras_dl.ops.recursive_least_squares import recursive_least_squares
from keras_dl.ops.ridge import RidgeStatistics
from keras_dl.ops.scan import scan

# Numbers in one part of the features of a long sequence: 64 MB of float32, and twice that in float64.
PART = 2**24


class ClosedFormFit:
    """`fit`, `partial_fit` and what they need, for `EchoStateNetwork`."""

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
            y: targets if x is an array: `[n, T, K]`, or `[n, K]` with `summary`; whole numbers without the last axis
                are classes. None (default): the next step of x.
            batch_size: int, for arrays. Defaults to 32.
            epochs: without effect: one pass finds the solution.
            verbose: as for every Keras model.
            callbacks: list of Keras callbacks; there is one epoch, whose logs are `loss`, the mean squared error on
                the training data, `alpha`, and the validation's metrics with `val_` before their names.
            validation_data: as x, or a tuple of arrays. Chooses among several alphas.
            shuffle: without effect: the order of sequences does not matter.
            sample_weight: `[n]` or `[n, T]`, if x is an array.
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
            self.compile(loss="mse" if not self.summary else None, metrics=["accuracy"] if self.summary else None)
        batches, steps = _batches(x, y, sample_weight, batch_size)
        callbacks = keras.callbacks.CallbackList(
            callbacks, add_history=True, add_progbar=verbose != 0, verbose=verbose, epochs=1, steps=steps, model=self
        )
        self.stop_training = False
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(initial_epoch)
        logs = self._learn(batches, solver, forgetting, validation_data, batch_size, callbacks, afresh=True)
        if validation_data is not None:
            x, y, weight = _parts(validation_data) if isinstance(validation_data, tuple | list) else (None,) * 3
            if x is None:
                scores = self.evaluate(validation_data, verbose=0, return_dict=True)
            else:
                x, y, weight = self._examples(x, y, weight)
                scores = self.evaluate(x, y, batch_size, sample_weight=weight, verbose=0, return_dict=True)
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
        if solver == "rls" and self.summary:
            raise ValueError(f"'rls' learns at each step: expected summary=None. Received: {self.summary!r}")
        if solver == "rls" and not self.recurrent:
            raise ValueError(f"'rls' needs a recurrent reservoir. Received: {self.reservoir.name}")

    def _learn(self, batches, solver, forgetting, validation, batch_size, callbacks, afresh):
        if getattr(self.reservoir, "stateful", False) and afresh and self.reservoir.built:
            self.reservoir.reset_state()
        if solver == "rls":
            return self._learn_online(batches, forgetting, callbacks, afresh)
        if not afresh and self.readout.statistics is None and self.built and np.any(self.readout.kernel.numpy()):
            raise ValueError(
                "A loaded model has not kept what it learnt from. Expected: `fit` before `partial_fit`. Received: none"
            )
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
        if not afresh and self.readout.statistics is not None:
            seen.merge(self.readout.statistics)
        before, self.readout.statistics = self.readout.statistics, seen
        try:
            alpha = self.readout.solve(self._validation_rows(validation, batch_size))
        except ValueError:
            self.readout.statistics = before
            raise
        return {"loss": seen.mean_squared_error(self.readout.kernel.numpy().astype("float64")), "alpha": alpha}

    def _validation_rows(self, validation, batch_size):
        if validation is None:
            return None
        arrays = _parts(validation) if isinstance(validation, tuple | list) else (validation, None, None)
        batches, _ = _batches(*arrays, batch_size)
        return (row for rows in self._rows(batches) for row in rows)

    def _rows(self, batches):
        """For each batch an iterator of `(features [n, F], targets [n, K], weights [n] or None)`."""
        for number, batch in enumerate(batches):
            yield self._rows_of(*self._checked(number, *self._examples(*batch)))

    def _examples(self, x, y, weight):
        """A batch with its targets: the next step if there are none."""
        x = ops.convert_to_numpy(x)
        if y is None:
            x, y, weight = x[:, :-1], x[:, 1:], None if weight is None else ops.convert_to_numpy(weight)
            weight = weight[:, 1:] if weight is not None and weight.ndim == 2 else weight
        return x, ops.convert_to_numpy(y), None if weight is None else ops.convert_to_numpy(weight)

    def _checked(self, number, x, y, weight):
        """A batch as `(x, y, mask, weights [B, T])`, y as numbers `[B, T, K]` or `[B, K]`."""
        where = f"in batch {number}"
        if x.ndim != 3 or 0 in x.shape:
            raise ValueError(f"Expected inputs [B, T, D] {where}. Received: shape {x.shape}")
        if not self.built:
            self.build((len(x) if getattr(self.reservoir, "stateful", False) else None, None, x.shape[-1]))
            self.built = True
        if x.shape[-1] != self.input_features:
            raise ValueError(f"Expected {self.input_features} features {where}. Received: shape {x.shape}")
        if x.shape[1] <= self.washout:
            raise ValueError(f"Expected more steps than the washout of {self.washout} {where}. Received: {x.shape[1]}")
        mask = self.padding_mask(x)
        mask = np.ones(x.shape[:2], bool) if mask is None else ops.convert_to_numpy(mask)
        shape = (len(x), self.units) if self.summary else (*x.shape[:2], self.units)
        if np.issubdtype(y.dtype, np.integer) and (self.units > 1 or self.summary):
            y = y[..., 0] if y.shape == (*shape[:-1], 1) else y
            if y.shape == shape[:-1]:
                inside = mask if y.ndim == 2 else slice(None)
                if y[inside].size and not 0 <= y[inside].min() <= y[inside].max() < self.units:
                    raise ValueError(f"Expected classes from 0 to {self.units - 1} {where}. Received: {y[inside]}")
                y = np.eye(self.units)[y.clip(0, self.units - 1)]
        if y.shape != shape:
            raise ValueError(f"Expected targets {list(shape)} {where}. Received: shape {y.shape}")
        weight = np.ones(1) if weight is None else np.asarray(weight, "float64")
        if weight.ndim > 2 or (weight < 0).any() or not np.isfinite(weight).all():
            raise ValueError(f"Expected weights from 0, [B] or [B, T] {where}. Received: {weight}")
        weight = np.broadcast_to(weight if weight.ndim == 2 else weight[:, None], x.shape[:2])
        for name, array, inside in (("inputs", x, mask), ("targets", y, mask if not self.summary else slice(None))):
            if not np.isfinite(array[inside]).all():
                times = np.argwhere(~np.isfinite(array) & (mask[..., None] if array.ndim == 3 else True))[0]
                raise ValueError(f"Expected finite {name} {where}. Received: {array[tuple(times)]} at {times.tolist()}")
        return x, y, mask, weight

    def _rows_of(self, x, y, mask, weight):
        late = np.arange(x.shape[1]) >= self.washout
        counted = mask & late
        if self.feedback:
            teacher = np.concatenate([np.zeros_like(y[:, :1]), y[:, :-1]], 1)
            x = np.concatenate([x, np.where(np.isfinite(teacher), teacher, 0)], -1)
        whole = mask.all()  # a loop without a mask is faster
        if self.summary in ("last", "mean"):
            features, _ = self.features(_cast(self, x), mask=None if whole else ops.convert_to_tensor(mask), training=True)
            rows = self.summarise(features, None if whole else ops.convert_to_tensor(mask))
            yield ops.convert_to_numpy(rows), y, weight[:, 0]
            return
        if self.summary == "vote":
            y = np.broadcast_to(y[:, None], (*x.shape[:2], self.units))
        width = len(x) * (self.readout.kernel.shape[0] + self.units)
        part = max(1, PART // width) if self.recurrent else x.shape[1]
        states = None
        for first in range(0, x.shape[1], part):
            now = slice(first, first + part)
            steps = None if whole else ops.convert_to_tensor(mask[:, now])
            features, states = self.features(_cast(self, x[:, now]), states, steps, training=True)
            keep = counted[:, now]
            features, weights = ops.convert_to_numpy(features)[keep], weight[:, now][keep]
            yield features, y[:, now][keep], None if (weights == 1).all() else weights

    def _learn_online(self, batches, forgetting, callbacks, afresh):
        """Recursive least squares over the steps of each batch, all its series at once."""
        kernel = covariance = None
        if not afresh:
            kernel, covariance = getattr(self, "_online", (None, None))
        function, errors, count = _compiled(self._online_steps), 0.0, 0.0
        for number, batch in enumerate(batches):
            if callbacks:
                callbacks.on_train_batch_begin(number)
            x, y, mask, weight = self._checked(number, *self._examples(*batch))
            if kernel is None:
                size = self.readout.kernel.shape[0] + 1
                alpha = max(self.readout.alpha if np.ndim(self.readout.alpha) == 0 else self.readout.alpha[0], 1e-12)
                kernel, covariance = np.zeros((size, self.units)), np.eye(size) / alpha
            learn = mask & (np.arange(x.shape[1]) >= self.washout) & (weight > 0)
            y = np.where(mask[..., None], y, 0)
            states = self.reservoir.get_initial_state(len(x))
            if self.reservoir.stateful:
                states = [ops.convert_to_tensor(state) for state in keras.tree.flatten(self.reservoir.states)]
            x = np.where(mask[..., None], x, 0)
            inputs = [np.swapaxes(array, 0, 1) for array in (x.astype(self.compute_dtype), y.astype("float64"), mask, learn)]
            outputs, states, kernel, covariance = function(inputs, states, kernel, covariance, float(forgetting))
            if self.reservoir.stateful:
                for variable, state in zip(keras.tree.flatten(self.reservoir.states), states, strict=True):
                    variable.assign(state)
            wrong = (ops.convert_to_numpy(outputs) - inputs[1])[inputs[3]]
            errors, count = errors + np.square(wrong).sum(), count + wrong.size
            if callbacks:
                callbacks.on_train_batch_end(number, {"loss": errors / max(count, 1)})
        if kernel is None:
            raise ValueError("Expected at least one batch. Received: none")
        solution = ops.convert_to_numpy(kernel)
        if not np.isfinite(solution).all():
            raise ValueError("Recursive least squares diverged. Expected: a larger alpha or a forgetting nearer to 1")
        self._online = kernel, covariance
        self.readout.kernel.assign(solution[:-1])
        self.readout.bias.assign(solution[-1])
        return {"loss": errors / max(count, 1)}

    def _online_steps(self, inputs, states, kernel, covariance, forgetting):
        def step(carry, slices):
            output, kernel, covariance, *old = carry
            x, y, mask, learn = slices
            heard = ops.concatenate([x, ops.cast(output, x.dtype)], -1) if self.feedback else x
            states, new = self.reservoir.cell(heard, old)
            new = [ops.where(mask[:, None], a, b) for a, b in zip(new, old, strict=True)]
            features = ops.cast(self._beside(heard, states), "float64")
            features = ops.concatenate([features, ops.ones_like(features[:, :1])], -1)
            output = ops.where(mask[:, None], ops.matmul(features, kernel), output)
            features = ops.where(learn[:, None], features, 0.0)
            learnt = recursive_least_squares(kernel, covariance, features, y, forgetting)
            anything = ops.any(learn)
            kernel, covariance = (ops.where(anything, a, b) for a, b in zip(learnt, (kernel, covariance), strict=True))
            return [output, kernel, covariance, *new]

        start = ops.zeros_like(inputs[1][0])
        (_, kernel, covariance, *states), outputs = scan(step, [start, kernel, covariance, *states], inputs)
        return outputs, states, kernel, covariance


def _compiled(function):
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def _cast(model, array):
    return ops.convert_to_tensor(array.astype(keras.backend.standardize_dtype(model.compute_dtype)))


def _parts(batch):
    """`(x, y, sample_weight)` of what a data set yields."""
    batch = batch if isinstance(batch, tuple | list) else (batch,)
    return (*batch, None, None)[:3]


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
    try:
        steps = len(x)
    except TypeError:
        steps = None
    return (_parts(batch) for batch in x), steps
