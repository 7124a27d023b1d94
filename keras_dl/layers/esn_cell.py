"""A single step of an echo state network."""

import random

import keras
import numpy as np
from keras import ops

from keras_dl.layers.padding import without_padding
from keras_dl.ops.checks import is_integer, require_count
from keras_dl.ops.precision import wide
from keras_dl.ops.reservoir import DENSE_SPEEDUP, activated, recurrent_product, reservoir_states
from keras_dl.ops.reservoir_weights import draw_input_kernel, draw_recurrent_kernel, links


@keras.saving.register_keras_serializable("keras_dl")
class ESNCell(keras.layers.Layer):
    """Cell of an echo state network: a fixed random recurrent layer; only a readout of its states is trained.

        h~ = activation(x W_in + h W + b + noise)
        h  = (1 - leak_rate) h + leak_rate h~

    The weights are non-trainable, depend only on the seed, are the same on every backend, and are saved with the model.
    `keras.layers.RNN(ESNCell(...))` works, but `keras_dl.layers.ESN` is faster.

    Args:
        units: int, N.
        fan_in: int, number of incoming recurrent links per unit. Defaults to 10. None for links from all units.
        spectral_radius: float, largest absolute eigenvalue of W, exact. Defaults to 0.9.
        leak_rate: float in (0, 1], or one per unit. Smaller values make the state change and fade more slowly. Defaults
            to 1.
        input_scaling: float, or one per feature; W_in is uniform in [-input_scaling, input_scaling]. Defaults to 1.
        bias_scaling: float, the same for b. Defaults to 0.
        activation: as in other Keras layers; an activation over all units, such as `"softmax"`, must not change their
            number. Defaults to `"tanh"`.
        noise_stddev: float, standard deviation of the noise added before the activation during training. Defaults to 0.
        topology: `"random"` (default); `"cycle"`, one link of weight `spectral_radius` from each unit to the next and
            input weights of equal size with random signs (Rodan and Tino 2011); or `"given"`, zeros, to be filled by
            `set_weights`.
        feedback: int, number of features at the end of the input that are fed-back outputs. They have their own scaling
            and are filled in by `keras_dl.models.EchoStateNetwork`. Defaults to 0.
        feedback_scaling: float, scaling of the weights of these features. Defaults to 1.
        density: float in (0, 1], `fan_in` as a fraction of the units. Defaults to None.
        seed: int, seed of all weights. Defaults to None: a random seed, stored in the config.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, D]`.
        states: list of one float tensor `[B, N]`.
        training: bool, whether to add noise.

    Returns:
        `(h, [h])`, `[B, N]`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> import numpy as np
    >>> cell = ESNCell(20, fan_in=5, seed=1)
    >>> output, states = cell(np.ones((2, 3)), cell.get_initial_state(batch_size=2))
    >>> output.shape, [weight.name for weight in cell.weights]
    (TensorShape([2, 20]), ['recurrent_kernel', 'kernel', 'bias'])

    Reference: Jaeger 2001, "The echo state approach to analysing and training recurrent neural networks"; with leak:
    Jaeger, Lukosevicius, Popovici and Siewert 2007, eq. 1.
    """

    def __init__(
        self,
        units,
        fan_in=10,
        spectral_radius=0.9,
        leak_rate=1.0,
        input_scaling=1.0,
        bias_scaling=0.0,
        activation="tanh",
        noise_stddev=0.0,
        topology="random",
        feedback=0,
        feedback_scaling=1.0,
        density=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**{"autocast": False, **kwargs})
        leak_rate = np.asarray(leak_rate, "float64").tolist()
        self.units = require_count("units", units)
        _check(density, "density", density is None or 0 < density <= 1, "None or a number in (0, 1]")
        if density is not None:
            fan_in = max(1, round(density * units))
        if topology != "cycle":
            valid = fan_in is None or is_integer(fan_in) and 0 < fan_in <= units
            _check(fan_in, "fan_in", valid, f"None (links from all units) or an integer from 1 to units={units}")
        _check(spectral_radius, "spectral_radius", 0 <= spectral_radius < np.inf, "a number of at least 0")
        rates = np.atleast_1d(leak_rate)
        valid = rates.shape in [(1,), (units,)] and (rates > 0).all() and (rates <= 1).all()
        _check(leak_rate, "leak_rate", valid, f"a number in (0, 1] or {units} of them")
        _check(noise_stddev, "noise_stddev", 0 <= noise_stddev < np.inf, "a number of at least 0")
        _check(topology, "topology", topology in ("random", "cycle", "given"), "'random', 'cycle' or 'given'")
        self.fan_in = None if fan_in is None else int(fan_in)
        self.spectral_radius = float(spectral_radius)
        self.leak_rate = leak_rate
        self.input_scaling = np.asarray(input_scaling, "float64").tolist()
        self.bias_scaling = float(bias_scaling)
        self.activation = keras.activations.get(activation)
        self.noise_stddev = float(noise_stddev)
        self.topology = topology
        self.feedback = require_count("feedback", feedback, least=0)
        self.feedback_scaling = float(feedback_scaling)
        self.seed = random.randint(1, 10**9) if seed is None else int(seed)
        self.noise = keras.random.SeedGenerator(self.seed)
        self.state_size = self.output_size = self.units

    def build(self, input_shape):
        features, units = input_shape[-1] - self.feedback, self.units
        if features < 0 or features + self.feedback == 0:
            raise ValueError(
                f"Expected at least {max(self.feedback, 1)} features, the last {self.feedback} of them fed-back "
                f"outputs. Received: inputs of shape {tuple(input_shape)}"
            )
        valid = np.ndim(self.input_scaling) == 0 or np.shape(self.input_scaling) == (features,)
        _check(self.input_scaling, "input_scaling", valid, f"a number or one for each of {features} features")
        links_in = 1 if self.topology == "cycle" else self.fan_in
        # One generator per matrix, so that the arguments of one matrix do not affect another.
        seeds = np.random.SeedSequence(self.seed).spawn(4)
        if self.topology == "given":
            recurrent = np.zeros((units, units)) if links_in is None else draw_recurrent_kernel(units, 1, 0.0, "cycle")
        else:
            recurrent = draw_recurrent_kernel(units, links_in, self.spectral_radius, self.topology, seeds[0])
        kernel = draw_input_kernel(features, units, self.input_scaling, self.topology, seeds[1])
        fed_back = draw_input_kernel(self.feedback, units, self.feedback_scaling, self.topology, seeds[2])
        self.gathers = links_in is not None and DENSE_SPEEDUP * links_in <= units
        if self.gathers:
            sources, values = links(recurrent, links_in)
            self.sources = self._add_fixed("recurrent_sources", sources, dtype="int32")
            self.values = self._add_fixed("recurrent_values", values)
        else:
            dense = recurrent if isinstance(recurrent, np.ndarray) else recurrent.toarray()
            self.recurrent = self._add_fixed("recurrent_kernel", dense)
        self.kernel = self._add_fixed("kernel", np.concatenate([kernel, fed_back]))
        self.bias = self._add_fixed("bias", draw_input_kernel(1, units, self.bias_scaling, seed=seeds[3])[0])

    def _add_fixed(self, name, array, dtype=None):
        def initializer(shape, dtype):
            return ops.convert_to_tensor(array, dtype)

        return self.add_weight(array.shape, initializer, dtype=dtype, trainable=False, autocast=False, name=name)

    @property
    def compute_dtype(self):
        """Dtype of the states, which `keras.layers.RNN` reads: half precision would lose what a small leak adds."""
        return wide(super().compute_dtype)

    @property
    def recurrent_kernel(self):
        """W as tensors: `[N, N]`, or lists of links `(sources, values)`; see `keras_dl.ops.reservoir`."""
        if self.gathers:
            return ops.convert_to_tensor(self.sources), ops.cast(self.values, self.compute_dtype)
        return ops.cast(self.recurrent, self.compute_dtype)

    def drive(self, inputs, training=False):
        """Computes the external input of the units, `x W_in + b + noise`: `[..., D]` -> `[..., N]`."""
        inputs, kernel, bias = (ops.cast(x, self.compute_dtype) for x in (inputs, self.kernel, self.bias))
        drive = ops.matmul(inputs, kernel) + bias
        if training and self.noise_stddev:
            noise = keras.random.normal(ops.shape(drive), 0.0, self.noise_stddev, drive.dtype, self.noise)
            drive = drive + noise
        return drive

    def call(self, inputs, states, training=False):
        (state,) = states if isinstance(states, tuple | list) else (states,)
        old, leak_rate = ops.cast(state, self.compute_dtype), ops.convert_to_tensor(self.leak_rate, self.compute_dtype)
        total = self.drive(inputs, training) + recurrent_product(old, self.recurrent_kernel)
        new = (1 - leak_rate) * old + leak_rate * activated(self.activation, total)
        return ops.cast(new, self.dtype_policy.compute_dtype), [ops.cast(new, state.dtype)]

    def run(self, sequences, states, mask=None, training=False, keep=True):
        """Computes all steps: `[B, T, D]` -> `(outputs [B, T, N] or None, last output [B, N], last states)`.

        Masked steps keep the state, even if they contain NaN.
        """
        sequences = ops.cast(without_padding(sequences, mask), self.compute_dtype)
        state = ops.cast(states[0], self.compute_dtype)
        kernel, leak_rate = self.recurrent_kernel, ops.convert_to_tensor(self.leak_rate, sequences.dtype)
        if training and self.noise_stddev:
            drive = self.drive(sequences, training)
        else:
            drive = sequences, *(ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        outputs, last = reservoir_states(drive, state, kernel, leak_rate, self.activation, mask, keep)
        return outputs, last, [last]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, self.units), self.compute_dtype)]

    def get_config(self):
        names = "units fan_in spectral_radius leak_rate input_scaling bias_scaling noise_stddev topology feedback"
        config = {name: getattr(self, name) for name in f"{names} feedback_scaling seed".split()}
        return {**super().get_config(), **config, "activation": keras.activations.serialize(self.activation)}


def _check(value, name, valid, expected):
    if not valid:
        raise ValueError(f"`{name}` must be {expected}. Received: {value!r}")
