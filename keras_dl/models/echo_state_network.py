"""A reservoir with a readout in closed form."""

import inspect

import keras
import numpy as np
from keras import ops

from keras_dl.layers.ridge_readout import RidgeReadout
from keras_dl.models.closed_form import ClosedFormFit
from keras_dl.ops.scan import scan


@keras.saving.register_keras_serializable("keras_dl")
class EchoStateNetwork(ClosedFormFit, keras.Model):
    """A reservoir and a linear readout of its states, for forecasting, regression and classification of sequences.

        z_t = [u_t, x_t, x_t^2]          the input, the reservoir's states, their squares
        y_t = z_t W + c                  solved by ridge regression, in one pass over the data

    `fit` is no gradient training: see `ClosedFormFit.fit`. `compile`, `evaluate`, `predict`, callbacks, saving and
    Keras Tuner work as for every Keras model. Steps before the washout's end and masked steps count neither in `fit`
    nor in losses and metrics.

    Time: the state that has seen u_t gives y_t. In forecasting y_t is the estimate of u_{t+1}.

    Args:
        reservoir: `ESN`, `DeepESN`, or another layer `[B, T, D]` -> `[B, T, N]`; recurrent ones are set to return all
            states. `Bidirectional` ones cannot forecast. A stateful one's washout counts from the start of the stream
            in `fit`; `predict` and `evaluate` go on in the stream, `forecast` leaves it alone.
        units: int, K, targets or classes.
        alpha: float from 0, the ridge; or a list, from which `fit` takes the best on the validation data at no extra
            cost. Defaults to 1e-6.
        washout: int, steps at the beginning of each sequence, masked ones not counted, that the states need to forget
            their start. Defaults to 0.
        input_to_readout: bool, whether the readout sees the input too. Defaults to True.
        squared_states: bool, whether it sees the squares of the states. Defaults to False.
        pooling: None (default) for an output at each step; or one output for a sequence, from its `"last"` state, the
            `"mean"` of its states, or by a `"vote"` of its steps (their share for each class).
        mask_value: float, steps of which all features have this value are padding. Defaults to None: no padding, but
            what the mask says.
        **kwargs: `name`; `dtype`, by default the reservoir's.

    Call arguments:
        inputs: float tensor `[B, T, D]`.
        mask: bool tensor `[B, T]`, optional.
        training: bool, whether the reservoir has noise.

    Output shape:
        `[B, T, K]`; `[B, K]` with `pooling`. A reservoir with `feedback=K` hears the model's own last output.

    Raises:
        ValueError: for arguments that do not fit.

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
        if not isinstance(washout, int | np.integer) or washout < 0:
            raise ValueError(f"`washout` must be an int from 0. Received: {washout!r}")
        if pooling not in (None, "last", "mean", "vote"):
            raise ValueError(f"`pooling` must be None, 'last', 'mean' or 'vote'. Received: {pooling!r}")
        if not isinstance(reservoir, keras.layers.Layer):
            raise ValueError(f"`reservoir` must be a layer, such as keras_dl.layers.ESN. Received: {reservoir!r}")
        self.recurrent = isinstance(reservoir, keras.layers.RNN)
        if self.recurrent:
            if reservoir.go_backwards:
                raise ValueError("`reservoir` must run forwards, or be Bidirectional. Received: go_backwards=True")
            reservoir.return_sequences = reservoir.return_state = True
        self.feedback = getattr(getattr(reservoir, "cell", None), "feedback", 0)
        if self.feedback and (self.feedback != units or pooling or reservoir.stateful):
            raise ValueError(
                f"A reservoir with feedback needs as many feedback features as units, no pooling, and is not stateful. "
                f"Received: feedback={self.feedback}, units={units}, pooling={pooling!r}, stateful={reservoir.stateful}"
            )
        self.reservoir = reservoir
        self.readout = RidgeReadout(units, alpha, dtype=self.dtype_policy, name="readout")
        self.units = self.readout.units
        self.washout = int(washout)
        self.input_to_readout = input_to_readout
        self.squared_states = squared_states
        self.pooling = pooling
        self.mask_value = None if mask_value is None else float(mask_value)

    def build(self, input_shape):
        shape = (None, None, input_shape[-1] + self.feedback)
        if not self.reservoir.built:
            self.reservoir.build((input_shape[0], *shape[1:]) if getattr(self.reservoir, "stateful", False) else shape)
            self.reservoir.built = True
        states = self.reservoir.compute_output_shape(shape)
        states = states[0] if isinstance(states[0], tuple | list) else states  # the rest is that of the last states
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

    def padding_mask(self, inputs, mask=None):
        """The mask given, and that of `mask_value`: bool `[B, T]`, or None."""
        if self.mask_value is None:
            return mask
        own = ops.any(ops.not_equal(inputs, self.mask_value), -1)
        return own if mask is None else ops.logical_and(own, mask)

    def counted(self, inputs, mask):
        """Which steps count: after the washout and not masked; bool `[B, T]`."""
        if mask is None:
            return ops.broadcast_to(ops.arange(ops.shape(inputs)[1]) >= self.washout, ops.shape(inputs)[:2])
        return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), 1) > self.washout)

    def compute_mask(self, inputs, previous_mask=None):
        if self.pooling or not (self.washout or self.mask_value is not None or previous_mask is not None):
            return None
        return self.counted(inputs, self.padding_mask(inputs, previous_mask))

    def features(self, inputs, states=None, mask=None, training=False):
        """What the readout reads: `(features [B, T, F], last states)`, from initial `states` if they are given."""
        if mask is not None:
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, ops.zeros_like(inputs))
        if not self.recurrent:
            takes_mask = mask is not None and "mask" in inspect.signature(self.reservoir.call).parameters
            options = {"mask": mask} if takes_mask else {}
            return self._beside(inputs, self.reservoir(inputs, training=training, **options)), None
        outputs, *states = self.reservoir(inputs, initial_state=states, mask=mask, training=training)
        return self._beside(inputs, outputs), states

    def _beside(self, inputs, states):
        """Of the input, the states and their squares those that the readout sees, side by side."""
        if self.feedback:
            inputs = inputs[..., : -self.feedback]
        parts = [ops.cast(inputs, states.dtype)] if self.input_to_readout else []
        return ops.concatenate([*parts, states, *([ops.square(states)] if self.squared_states else [])], -1)

    def pool(self, features, mask):
        """One row for each sequence, `[B, T, F]` -> `[B, F]`: that of the last step that counts, or their mean."""
        counted = self.counted(features, mask)
        if self.pooling == "last":
            return _last(features, counted)
        weight = ops.expand_dims(ops.cast(counted, features.dtype), -1)
        return ops.divide_no_nan(ops.sum(features * weight, 1), ops.sum(weight, 1))

    def _step(self, inputs, states):
        """One step of reservoir and readout, for loops: `[B, D]` -> `(outputs [B, K], states)`."""
        outputs, states = self.reservoir.cell(inputs, states)
        return self.readout(self._beside(inputs, outputs)), list(states)

    def _generate(self, inputs, mask):
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

    def forecast(self, context, steps, initial_state=None, return_state=False):
        """Goes on with a series in closed loop: every forecast is the next input.

        On TensorFlow it works inside a graph too, with `steps` an int tensor, and so can be exported.

        Args:
            context: float tensor `[B, T, D]`, T at least 1: the series so far.
            steps: int, above 0.
            initial_state: list of float tensors, states before the context. Defaults to zeros.
            return_state: bool, whether the states are returned. Defaults to False.

        Returns:
            Float tensor `[B, steps, D]`: the first is the estimate of what follows the context. With `return_state`
            also the states, which have seen all forecasts but the last:
            `forecast(first[:, -1:], more, initial_state=states)` continues.

        Raises:
            ValueError: before `fit`; for steps below 1; for a context of another number of features; for models that do
                not map a series to its own next step.
        """
        fitting = self.recurrent and not self.pooling and not self.feedback
        if not fitting or (self.built and self.units != self.input_features):
            raise ValueError(
                "Only a model with as many units as features, a recurrent reservoir without feedback, and no pooling "
                f"can forecast. Received: units={self.units}, features={getattr(self, 'input_features', None)}, "
                f"feedback={self.feedback}, pooling={self.pooling!r}, reservoir {self.reservoir.name}"
            )
        self.check_fitted()
        context = ops.cast(ops.convert_to_tensor(context), self.compute_dtype)
        if len(context.shape) != 3 or context.shape[-1] != self.units or context.shape[1] == 0:
            raise ValueError(f"Expected a context [B, T, {self.units}], T above 0. Received: shape {context.shape}")
        if isinstance(steps, int | np.integer) and steps < 1:
            raise ValueError(f"`steps` must be an int above 0. Received: {steps!r}")
        if initial_state is None:
            initial_state = self.reservoir.get_initial_state(ops.shape(context)[0])
        initial_state = [ops.cast(ops.convert_to_tensor(state), self.compute_dtype) for state in initial_state]
        function = self._forecast
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            steps = tf.convert_to_tensor(steps, tf.int32)
            if tf.executing_eagerly():
                if getattr(self, "_forecast_graph", None) is None:
                    # One graph for all shapes: another one may round otherwise, and a chaotic forecast would differ.
                    free = [tf.TensorSpec([None, None, self.units], context.dtype), tf.TensorSpec([], tf.int32)]
                    free.append([tf.TensorSpec([None, state.shape[-1]], state.dtype) for state in initial_state])
                    self._forecast_graph = tf.function(self._forecast, input_signature=free)
                function = self._forecast_graph
        forecast, states = function(context, steps, initial_state)
        return (forecast, states) if return_state else forecast

    def _forecast(self, context, steps, initial_state):
        mask, stateful = self.padding_mask(context), self.reservoir.stateful
        self.reservoir.stateful = False  # else its own states would be read and written
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
        return super().compute_loss(x, _known(y, y_pred), y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, _known(y, y_pred), y_pred, sample_weight)

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
    """The row of each sequence's last step that is not masked, `[B, T, F]` -> `[B, F]`."""
    times = ops.arange(ops.shape(features)[1])
    last = ops.max(ops.where(mask, times, ops.zeros_like(times)), -1)
    return ops.squeeze(ops.take_along_axis(features, ops.reshape(last, (-1, 1, 1)), 1), 1)


def _known(y, outputs):
    """Targets, zeros where they do not count: NaN times the zero of a mask would be NaN."""
    mask = getattr(outputs, "_keras_mask", None)
    if mask is None or y is None:
        return y
    mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(y.shape) - 2)))
    return ops.where(mask, y, ops.zeros_like(y))
