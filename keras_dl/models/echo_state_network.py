"""A reservoir with a linear readout solved in closed form."""

import inspect

import keras
import numpy as np
from keras import ops

from keras_dl.layers.ridge_readout import RidgeReadout
from keras_dl.models.checked_batches import as_series
from keras_dl.models.readout_fit import ReadoutFit
from keras_dl.ops.checks import require_count
from keras_dl.ops.scan import scan


@keras.saving.register_keras_serializable("keras_dl")
class EchoStateNetwork(keras.Model):
    """A reservoir and a linear readout of its states, for forecasting, regression and classification of sequences.

        z_t = [u_t, x_t, x_t^2]          the input, the reservoir's states, their squares
        y_t = z_t W + c                  solved by ridge regression, in one pass over the data

    `fit` solves the readout instead of training with gradients. `compile`, `evaluate`, `predict`, callbacks, saving and
    Keras Tuner work as for any Keras model. Washout and masked steps do not count in `fit`, losses or metrics.

    The state after reading u_t gives y_t. In forecasting, y_t is the estimate of u_{t+1}.

    Args:
        reservoir: `ESN`, `DeepESN`, or another layer `[B, T, D]` -> `[B, T, N]`; recurrent layers are set to return all
            states. A model with a `Bidirectional` reservoir cannot forecast. With a stateful reservoir, the washout
            counts from the start of the stream in `fit`; `predict` and `evaluate` continue the stream; `forecast` does
            not change it.
        units: int, K, the number of targets or classes.
        alpha: float >= 0, the ridge penalty; or a list, from which `fit` chooses the best on the validation data at no
            extra cost. Defaults to 1e-6.
        washout: int, the number of unmasked steps at the start of each sequence that the states need to forget their
            initial value. Defaults to 0.
        input_to_readout: bool, whether the readout also reads the input. Defaults to True.
        squared_states: bool, whether the readout also reads the squared states. Defaults to False.
        pooling: None (default) for an output at each step; or one output per sequence, from its `"last"` state, the
            `"mean"` of its states, or a `"vote"` of its steps (the fraction of steps for each class).
        mask_value: float; steps where all features have this value are padding. Defaults to None: only the mask marks
            padding.
        **kwargs: `name`; `dtype`, by default the reservoir's.

    Call arguments:
        inputs: float tensor `[B, T, D]`.
        mask: bool tensor `[B, T]`, optional.
        training: bool, whether the reservoir adds noise.

    Output shape:
        `[B, T, K]`; `[B, K]` with `pooling`. A reservoir with `feedback=K` reads the model's previous output.

    Raises:
        ValueError: if the arguments are invalid or incompatible.

    Example:

    >>> from keras_dl.layers import ESN
    >>> wave = np.sin(0.2 * np.arange(600)).reshape(1, -1, 1)
    >>> model = EchoStateNetwork(ESN(100, spectral_radius=0.9, seed=1), units=1, alpha=1e-8, washout=100)
    >>> history = model.fit(wave[:, :500], verbose=0)            # without targets: forecast the next step
    >>> forecast = model.forecast(wave[:, :500], steps=100)
    >>> bool(np.abs(forecast - wave[:, 500:]).max() < 1e-2)
    True

    Reference: Lukosevicius 2012, "A practical guide to applying echo state networks".
    """

    def __init__(
        self,
        reservoir,
        units,
        alpha=1e-6,
        washout=0,
        input_to_readout=True,
        squared_states=False,
        pooling=None,
        mask_value=None,
        **kwargs,
    ):
        if isinstance(reservoir, keras.layers.Layer):
            kwargs.setdefault("dtype", reservoir.dtype_policy)
        super().__init__(**kwargs)
        washout = require_count("washout", washout, 0)
        if pooling not in (None, "last", "mean", "vote"):
            raise ValueError(f"`pooling` must be None, 'last', 'mean' or 'vote'. Received: {pooling!r}")
        if not isinstance(reservoir, keras.layers.Layer):
            raise ValueError(f"`reservoir` must be a layer, such as keras_dl.layers.ESN. Received: {reservoir!r}")
        self.recurrent = isinstance(reservoir, keras.layers.RNN)
        if self.recurrent:
            if reservoir.go_backwards:
                raise ValueError("`reservoir` must run forward or be Bidirectional. Received: go_backwards=True")
            reservoir.return_sequences = reservoir.return_state = True
        self.feedback = getattr(getattr(reservoir, "cell", None), "feedback", 0)
        if self.feedback and (self.feedback != units or pooling or reservoir.stateful):
            raise ValueError(
                "A reservoir with feedback must have feedback=units, stateful=False, and no pooling. Received: "
                f"feedback={self.feedback}, units={units}, stateful={reservoir.stateful}, pooling={pooling!r}"
            )
        self.reservoir = reservoir
        self.readout = RidgeReadout(units, alpha, dtype=self.dtype_policy, name="readout")
        self.units = self.readout.units
        self.washout = washout
        self.input_to_readout = input_to_readout
        self.squared_states = squared_states
        self.pooling = pooling
        self.mask_value = None if mask_value is None else float(mask_value)
        self._readout_fit = ReadoutFit(self)

    def build(self, input_shape):
        shape = (None, None, input_shape[-1] + self.feedback)
        if not self.reservoir.built:
            self.reservoir.build((input_shape[0], *shape[1:]) if getattr(self.reservoir, "stateful", False) else shape)
            self.reservoir.built = True
        states = self.reservoir.compute_output_shape(shape)
        states = states[0] if isinstance(states[0], tuple | list) else states  # the rest are the final states
        if len(states) != 3:
            raise ValueError(f"Expected a reservoir [B, T, D] -> [B, T, N]. Received: one that returns {states}")
        width = states[-1] * (2 if self.squared_states else 1) + (input_shape[-1] if self.input_to_readout else 0)
        if not self.readout.built:
            self.readout.build((None, width))
            self.readout.built = True
        self.input_features = input_shape[-1]

    def call(self, inputs, mask=None, training=False):
        mask = self.padding_mask(inputs, mask)
        if self.feedback:
            return self._generate(inputs, mask)
        features, _ = self.features(inputs, mask=mask, training=training)
        if self.pooling in ("last", "mean"):
            return self.readout(self.pool(features, mask))
        outputs = self.readout(features)
        if self.pooling == "vote":
            votes = ops.one_hot(ops.argmax(outputs, -1), self.units, dtype=outputs.dtype)
            outputs = self.pool(votes, mask)
        return outputs

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
        """Solves the readout in one pass over data of any size, discarding what was learned before.

        Args:
            x: a `tf.data.Dataset`, or another iterable, of batches `x`, `(x, y)` or `(x, y, sample_weight)`; or an
                array `[n, T, D]`, or `[T]` for one series of one variable.
            y: targets if x is an array: `[n, T, K]`, or `[n, K]` with `pooling`; integers without the last axis are
                classes. None (default): the next step of x.
            batch_size: int, for arrays. Defaults to 32.
            epochs: ignored: one pass finds the solution.
            verbose: as for any Keras model.
            callbacks: list of Keras callbacks. There is one epoch; its logs are `loss`, the mean squared error on the
                training data, `alpha`, and the validation metrics with the prefix `val_`.
            validation_data: like x, or a tuple of arrays; read twice. Used to choose among several values of alpha.
                With a stateful reservoir, validation continues the stream from the end of the training data, and the
                stream is then reset to that point.
            shuffle: ignored: the order of sequences does not matter.
            sample_weight: `[n]` or `[n, T]`, if x is an array. Targets with weight 0 may be NaN.
            initial_epoch: int, the epoch number passed to callbacks. Defaults to 0.
            solver: `"ridge"` (default), or `"rls"`: recursive least squares, which learns at each step. For a reservoir
                with feedback, this is FORCE learning: the model reads its own outputs while it learns. `loss` is then
                the error before each step's update.
            forgetting: float above 0 and at most 1 (default), for `"rls"`: a step that is n steps old has weight
                `forgetting ** n`.

        Returns:
            A `keras.callbacks.History` of one epoch.

        Raises:
            ValueError: for non-finite numbers (with the batch number), sequences that end within the washout, wrong
                shapes, or several values of alpha without validation data. The model is then unchanged.

        Reference: FORCE: Sussillo and Abbott 2009, "Generating coherent patterns of activity from chaotic networks".
        """
        return self._readout_fit.fit(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            verbose=verbose,
            callbacks=callbacks,
            validation_data=validation_data,
            initial_epoch=initial_epoch,
            solver=solver,
            forgetting=forgetting,
        )

    def partial_fit(self, x, y=None, sample_weight=None, batch_size=32, solver="ridge", forgetting=1.0):
        """Learns from more data, as if it had been part of the last `fit`; see `fit` for the arguments.

        The training state is kept in memory and not saved with the model: call `fit` after loading.

        Example:

        >>> from keras_dl.layers import ESN
        >>> x = np.random.default_rng(0).uniform(size=(4, 100, 1))
        >>> model = EchoStateNetwork(ESN(20, seed=1), units=1, washout=10)
        >>> model.partial_fit(x[:2], 2 * x[:2])
        >>> model.partial_fit(x[2:], 2 * x[2:])
        >>> kernel, _ = model.readout.get_weights()
        >>> history = model.fit(x, 2 * x, verbose=0)
        >>> bool(np.allclose(kernel, model.readout.get_weights()[0], atol=1e-6))
        True
        """
        self._readout_fit.partial_fit(x, y, sample_weight, batch_size, solver, forgetting)

    def check_fitted(self):
        """Raises a ValueError if the readout was never solved; in graphs, only if the model is not built."""
        if not self.built:
            raise ValueError("Expected a fitted model; call `fit` first. Received: a model that is not built")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if not tf.executing_eagerly():
                return
        if not any(np.any(ops.convert_to_numpy(weight)) for weight in (self.readout.kernel, self.readout.bias)):
            raise ValueError("Expected a fitted model; call `fit` first. Received: a readout of zeros")

    @property
    def stateful_reservoir(self):
        """Whether the reservoir keeps its states between batches."""
        return self.recurrent and self.reservoir.stateful

    def stream(self):
        """Returns the state variables of a stateful reservoir, or an empty list."""
        states = self.reservoir.states if self.stateful_reservoir else None
        return [] if states is None else keras.tree.flatten(states)

    def padding_mask(self, inputs, mask=None):
        """Combines the given mask with that of `mask_value`: bool `[B, T]`, or None."""
        if self.mask_value is None:
            return mask
        own = ops.any(ops.not_equal(inputs, self.mask_value), -1)
        return own if mask is None else ops.logical_and(own, mask)

    def counted(self, inputs, mask):
        """Returns which steps count, after the washout and not masked: bool `[B, T]`."""
        if mask is None:
            return ops.broadcast_to(
                ops.arange(ops.shape(inputs)[1], dtype="int32") >= self.washout, ops.shape(inputs)[:2]
            )
        return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), 1) > self.washout)

    def compute_mask(self, inputs, previous_mask=None):
        if self.pooling or not (self.washout or self.mask_value is not None or previous_mask is not None):
            return None
        return self.counted(inputs, self.padding_mask(inputs, previous_mask))

    def features(self, inputs, states=None, mask=None, training=False):
        """Returns `(features [B, T, F], final states)`, the readout's inputs; `states` are the initial states."""
        if mask is not None:
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, ops.zeros_like(inputs))
        if not self.recurrent:
            takes_mask = mask is not None and "mask" in inspect.signature(self.reservoir.call).parameters
            options = {"mask": mask} if takes_mask else {}
            return self.readout_inputs(inputs, self.reservoir(inputs, training=training, **options)), None
        outputs, *states = self.reservoir(inputs, initial_state=states, mask=mask, training=training)
        return self.readout_inputs(inputs, outputs), states

    def readout_inputs(self, inputs, states):
        """Concatenates the inputs, states and squared states that the readout reads."""
        if self.feedback:
            inputs = inputs[..., : -self.feedback]
        parts = [ops.cast(inputs, states.dtype)] if self.input_to_readout else []
        return ops.concatenate([*parts, states, *([ops.square(states)] if self.squared_states else [])], -1)

    def pool(self, features, mask):
        """Reduces `[B, T, F]` to `[B, F]`: the last step that counts, or the mean of the steps that count."""
        counted = self.counted(features, mask)
        if self.pooling == "last":
            return _last(features, counted)
        weight = ops.expand_dims(ops.cast(counted, features.dtype), -1)
        return ops.divide_no_nan(ops.sum(features * weight, 1), ops.sum(weight, 1))

    def _step(self, inputs, states):
        """Runs one step of reservoir and readout: `[B, D]` -> `(outputs [B, K], states)`."""
        outputs, states = self.reservoir.cell(inputs, states)
        return self.readout(self.readout_inputs(inputs, outputs)), list(states)

    def _generate(self, inputs, mask):
        """Runs a reservoir with feedback on the model's own outputs."""

        def step(states, slices):
            output, *states = states
            new = self._step(ops.concatenate([slices[0], output], -1), states)
            new = [new[0], *new[1]]
            if mask is None:
                return new
            return [ops.where(slices[1], a, b) for a, b in zip(new, [output, *states], strict=True)]

        start = ops.zeros((ops.shape(inputs)[0], self.units), self.compute_dtype)
        slices = [ops.transpose(inputs, (1, 0, 2))]
        if mask is not None:
            slices[0] = ops.where(ops.expand_dims(ops.transpose(mask), -1), slices[0], ops.zeros_like(slices[0]))
            slices.append(ops.expand_dims(ops.transpose(mask), -1))
        _, outputs = scan(step, [start, *self.reservoir.get_initial_state(ops.shape(inputs)[0])], slices)
        return ops.transpose(outputs, (1, 0, 2))

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`, for data in any form that `fit` accepts, such as one series `[T]`."""
        return super().predict(as_series(x)[0], *args, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, **kwargs):
        """As `keras.Model.evaluate`, for data in any form that `fit` accepts, such as one series `[T]`."""
        x, y, sample_weight = as_series(x, y, sample_weight)
        return super().evaluate(x, y, batch_size, verbose, sample_weight, **kwargs)

    def forecast(self, context, steps, initial_state=None, return_state=False):
        """Continues a series in closed loop: each forecast is the next input.

        On TensorFlow, it also works in a graph, with `steps` as an int tensor, and so can be exported.

        Args:
            context: tensor `[B, T, D]`, or `[T]` for one series of one variable, T at least 1: the series so far.
            steps: int, above 0.
            initial_state: list of float tensors, the states before the context. Defaults to zeros.
            return_state: bool, whether to return the states. Defaults to False.

        Returns:
            Float tensor `[B, steps, D]`, beginning with the step after the context. With `return_state`, also the
            states, after reading all forecasts except the last: `forecast(first[:, -1:], more, initial_state=states)`
            continues the series.

        Raises:
            ValueError: before `fit`; if `steps` is below 1 or the context has the wrong number of features; if the
                model does not map a series to its own next step.
        """
        can_forecast = self.recurrent and not self.pooling and not self.feedback
        if not can_forecast or (self.built and self.units != self.input_features):
            raise ValueError(
                "Forecasting requires as many units as features, a recurrent reservoir without feedback, and no "
                f"pooling. Received: units={self.units}, features={getattr(self, 'input_features', None)}, "
                f"feedback={self.feedback}, pooling={self.pooling!r}, reservoir {self.reservoir.name}"
            )
        self.check_fitted()
        context = ops.cast(ops.convert_to_tensor(as_series(context)[0]), self.compute_dtype)
        if len(context.shape) != 3 or context.shape[-1] != self.units or context.shape[1] == 0:
            raise ValueError(f"Expected a context [B, T, {self.units}], T above 0. Received: shape {context.shape}")
        steps = steps if ops.is_tensor(steps) else require_count("steps", steps)
        if initial_state is None:
            initial_state = self.reservoir.get_initial_state(ops.shape(context)[0])
        initial_state = [ops.cast(ops.convert_to_tensor(state), self.compute_dtype) for state in initial_state]
        function = self._forecast
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            steps = tf.convert_to_tensor(steps, tf.int32)
            if tf.executing_eagerly():
                if getattr(self, "_forecast_graph", None) is None:
                    # One graph for all shapes: others may round differently, which changes a chaotic forecast.
                    free = [tf.TensorSpec([None, None, self.units], context.dtype), tf.TensorSpec([], tf.int32)]
                    free.append([tf.TensorSpec([None, state.shape[-1]], state.dtype) for state in initial_state])
                    self._forecast_graph = tf.function(self._forecast, input_signature=free)
                function = self._forecast_graph
        forecast, states = function(context, steps, initial_state)
        return (forecast, states) if return_state else forecast

    def _forecast(self, context, steps, initial_state):
        mask, stateful = self.padding_mask(context), self.reservoir.stateful
        self.reservoir.stateful = False  # otherwise it would read and write its own states
        try:
            features, states = self.features(context, initial_state, mask)
        finally:
            self.reservoir.stateful = stateful
        first = self.readout(features[:, -1] if mask is None else _last(features, mask))

        def step(states, _):
            output, states = self._step(states[0], states[1:])
            return [output, *states]

        (_, *states), others = scan(
            step, [first, *states], length=max(steps - 1, 0) if isinstance(steps, int) else ops.maximum(steps - 1, 0)
        )
        return ops.concatenate([first[:, None], ops.transpose(others, (1, 0, 2))], 1)[:, :steps], states

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, _zero_masked(y, y_pred), y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, _zero_masked(y, y_pred), y_pred, sample_weight)

    def get_config(self):
        names = "units washout input_to_readout squared_states pooling mask_value"
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names.split()},
            "alpha": self.readout.alpha,
            "reservoir": keras.saving.serialize_keras_object(self.reservoir),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "reservoir": keras.saving.deserialize_keras_object(config["reservoir"])})


def _last(features, mask):
    """Returns the last unmasked step of each sequence, `[B, T, F]` -> `[B, F]`."""
    times = ops.arange(ops.shape(features)[1], dtype="int32")
    last = ops.max(ops.where(mask, times, ops.zeros_like(times)), -1)
    return ops.squeeze(ops.take_along_axis(features, ops.reshape(last, (-1, 1, 1)), 1), 1)


def _zero_masked(y, outputs):
    """Sets masked targets to zero: NaN times a mask of zero would be NaN."""
    mask = getattr(outputs, "_keras_mask", None)
    if mask is None or y is None:
        return y
    mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(y.shape) - 2)))
    return ops.where(mask, y, ops.zeros_like(y))
