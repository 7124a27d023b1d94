"""LSTM with peephole connections, as a cell and as a layer."""

import keras
from keras import ops

from keras_dl.layers.padding import without_padding
from keras_dl.ops.checks import require_count, require_rate
from keras_dl.ops.precision import wide
from keras_dl.ops.recurrence import peephole_lstm


@keras.saving.register_keras_serializable("keras_dl")
class PeepholeLSTMCell(keras.layers.LSTMCell):
    """One step of an LSTM with peepholes, for `keras.layers.RNN` and `StackedRNNCells`; see also `PeepholeLSTM`.

    `i = s(z_i + p_i c')`, `f = s(z_f + p_f c')`, `c = f c' + i tanh(z_c)`, `o = s(z_o + p_o c)`, `h = o tanh(c)` with
    `z = x W + h' R + b`. `get_weights()` returns `W` (D, 4U), `R` (U, 4U), `b` (4U,), then the peepholes of `i`, `f`
    and `o`, (U,) each: the order of `tensorflow_addons.rnn.PeepholeLSTMCell`. The blocks of `W`, `R` and `b` are
    `i, f, c, o`.

    Args:
        units: int, U, the size of the output and of the cell state.
        activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            unit_forget_bias, the regularizers and constraints, seed: as in `keras.layers.LSTMCell`.
        dropout: float in [0, 1), fraction of the inputs to drop; one mask for all steps and gates. Defaults to 0.
        recurrent_dropout: float in [0, 1), the same for `h'` before `R`. Defaults to 0.
        coupled_gates: bool, whether `f = 1 - i`. The blocks are then `i, c, o`, (D, 3U), (U, 3U) and (3U,), and there
            is no peephole for `f`. Defaults to False.
        learn_initial_state: bool, whether to learn the initial state that is used if none is given. It adds two weights
            at the end, `h` and `c`, (U,) each. Defaults to False: zeros.
        peephole_initializer: initializer for the peepholes. Defaults to `"glorot_uniform"`.
        peephole_regularizer: regularizer for each peephole. Defaults to None.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, D]`.
        states: `[h, c]`, float tensors `[B, U]`.
        training: bool, whether to apply dropout.

    Raises:
        ValueError: if `units` or a dropout rate is out of range.

    Example:

    >>> import keras
    >>> cells = [PeepholeLSTMCell(8), PeepholeLSTMCell(4, coupled_gates=True)]
    >>> keras.layers.RNN(cells)(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 4])

    References: Gers et al. 2002, https://www.jmlr.org/papers/volume3/gers02a/gers02a.pdf; coupled gates: Greff et al.
    2017, https://arxiv.org/abs/1503.04069
    """

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        *,
        dropout=0.0,
        recurrent_dropout=0.0,
        coupled_gates=False,
        learn_initial_state=False,
        peephole_initializer="glorot_uniform",
        peephole_regularizer=None,
        **kwargs,
    ):
        units, dropout = require_count("units", units), require_rate("dropout", dropout)
        # Passed to the Keras cell, recurrent dropout would imply four masks and split kernels.
        super().__init__(units, activation, recurrent_activation, dropout=dropout, **{"autocast": False, **kwargs})
        self.recurrent_dropout = require_rate("recurrent_dropout", recurrent_dropout)
        self.coupled_gates = coupled_gates
        self.learn_initial_state = learn_initial_state
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.peephole_regularizer = keras.regularizers.get(peephole_regularizer)

    def build(self, input_shape):
        blocks, vector = 3 if self.coupled_gates else 4, (self.units,)
        self.kernel = self._weight("kernel", (input_shape[-1], blocks * self.units))
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, blocks * self.units), "recurrent")
        initializer = self._open_forget_gate if self.unit_forget_bias and not self.coupled_gates else None
        self.bias = self._weight("bias", (blocks * self.units,), initializer=initializer) if self.use_bias else None
        gates = ("input", "output") if self.coupled_gates else ("input", "forget", "output")
        self.peepholes = [self._weight(f"{gate}_gate_peephole", vector, "peephole") for gate in gates]
        learned = "hc" if self.learn_initial_state else ""
        self.initial_state = [self.add_weight(vector, "zeros", name=f"initial_{name}") for name in learned]
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})

    def _weight(self, name, shape, kind=None, initializer=None):
        kind = kind or name
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer or getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint", None),
        )

    def _open_forget_gate(self, _, dtype=None):
        """Initializes the bias so that the forget gate starts at 1."""
        before, after = (self.bias_initializer((n * self.units,), dtype=dtype) for n in (1, 2))
        return ops.concatenate([before, ops.ones((self.units,), dtype=dtype), after])

    @property
    def compute_dtype(self):
        """Dtype of the states, which `keras.layers.RNN` reads: in half precision, the cell would stop counting."""
        return wide(super().compute_dtype)

    def call(self, inputs, states, training=False):
        h, c = states
        narrow, dtypes = self.dtype_policy.compute_dtype, (h.dtype, c.dtype)
        inputs, h, kernel, recurrent_kernel = (
            ops.cast(x, narrow) for x in (inputs, h, self.kernel, self.recurrent_kernel)
        )
        c, *peepholes = (ops.cast(x, self.compute_dtype) for x in (c, *self.peepholes))
        if training and self.dropout:
            inputs = inputs * ops.cast(self.get_dropout_mask(inputs), narrow)
        if training and self.recurrent_dropout:
            h = h * ops.cast(self.get_recurrent_dropout_mask(h), narrow)
        z = ops.matmul(inputs, kernel) + ops.matmul(h, recurrent_kernel)
        z = ops.cast(z if self.bias is None else z + ops.cast(self.bias, narrow), self.compute_dtype)
        i, *f, new, o = ops.split(z, len(peepholes) + 1, axis=-1)
        i = self.recurrent_activation(i + peepholes[0] * c)
        f = self.recurrent_activation(f[0] + peepholes[1] * c) if f else 1 - i
        c = f * c + i * self.activation(new)
        o = self.recurrent_activation(o + peepholes[-1] * c)
        h = ops.cast(o * self.activation(c), narrow)
        return h, [ops.cast(state, dtype) for state, dtype in zip((h, c), dtypes, strict=True)]

    def get_initial_state(self, batch_size=None):
        if not self.learn_initial_state:
            return super().get_initial_state(batch_size)
        states = (ops.cast(state, self.compute_dtype) for state in self.initial_state)
        return [ops.broadcast_to(state, (batch_size, self.units)) for state in states]

    def get_config(self):
        return {
            **super().get_config(),
            "coupled_gates": self.coupled_gates,
            "learn_initial_state": self.learn_initial_state,
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
            "peephole_regularizer": keras.regularizers.serialize(self.peephole_regularizer),
        }


@keras.saving.register_keras_serializable("keras_dl")
class PeepholeLSTM(keras.layers.RNN):
    """LSTM with peepholes: `keras.layers.RNN(PeepholeLSTMCell(...))` with a faster loop.

    See `keras_dl.ops.recurrence.peephole_lstm`. With activations other than tanh and sigmoid, or with `unroll=True`, it
    runs the Keras loop over the cell. The weights and their order are those of the cell.

    Padding never changes a result, even if it contains NaN: a masked step keeps the state and repeats the previous
    output.

    Args:
        units: int, U, the size of the output and of the cell state.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as in `keras.layers.RNN`.
            Default to False.
        activity_regularizer: regularizer for the output. Defaults to None.
        **kwargs: `name`, `trainable`, `dtype`, and the arguments of `PeepholeLSTMCell`.

    Call arguments:
        sequences: float tensor `[B, T, D]`.
        initial_state: `[h, c]`, float tensors `[B, U]`. Defaults to the learned state, or zeros.
        mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `sequences`.
        training: bool, whether to apply dropout.

    Output shape:
        `[B, U]`, or `[B, T, U]` with `return_sequences=True`; with `return_state=True`, also `h` and `c`, `[B, U]`.

    Raises:
        ValueError: if an argument is out of range, or `stateful` is combined with `learn_initial_state`.

    Example:

    >>> import keras
    >>> sequences = keras.ops.ones((2, 5, 3))
    >>> PeepholeLSTM(4, return_sequences=True)(sequences).shape
    TensorShape([2, 5, 4])
    >>> both = keras.layers.Bidirectional(PeepholeLSTM(4, recurrent_initializer="orthogonal", coupled_gates=True))
    >>> both(sequences).shape
    TensorShape([2, 8])

    Keras already provides two related methods: the ReLU network initialized to the identity (Le et al. 2015,
    https://arxiv.org/abs/1504.00941) is `SimpleRNN(4, activation="relu", recurrent_initializer="identity")`, and
    gradient clipping is `Adam(clipnorm=1.0)` or `Adam(clipvalue=0.5)`.

    Reference: Gers et al. 2002, https://www.jmlr.org/papers/volume3/gers02a/gers02a.pdf
    """

    def __init__(
        self,
        units,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        activity_regularizer=None,
        name=None,
        trainable=True,
        dtype=None,
        **kwargs,
    ):
        if stateful and kwargs.get("learn_initial_state"):
            raise ValueError(
                "`learn_initial_state` and `stateful` cannot be combined, because a stateful layer continues from the "
                "previous batch. Received: both True"
            )
        # Keras builds the first layer of a Sequential model from these.
        shape = {key: kwargs.pop(key) for key in ("input_shape", "input_dim") if key in kwargs}
        cell = PeepholeLSTMCell(units, name="peephole_lstm_cell", trainable=trainable, dtype=dtype, **kwargs)
        loop = return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask
        own = {"name": name, "trainable": trainable, "dtype": dtype, **shape}
        super().__init__(cell, *loop, activity_regularizer=activity_regularizer, **own)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    units = property(lambda self: self.cell.units)

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: sequences_shape[-1]})

    def inner_loop(self, sequences, initial_state, mask, training=False):
        mask, cell = mask[0] if keras.tree.is_nested(mask) else mask, self.cell
        sequences = ops.cast(sequences, self.compute_dtype)
        activations = cell.activation, cell.recurrent_activation
        if self.unroll or activations != (keras.activations.tanh, keras.activations.sigmoid):
            # The Keras loop also computes padded steps.
            return super().inner_loop(without_padding(sequences, mask), initial_state, mask, training)
        recurrent_mask = None
        if training and cell.dropout:
            sequences = sequences * cell.get_dropout_mask(sequences[:, 0])[:, None]
        if training and cell.recurrent_dropout:
            recurrent_mask = ops.cast(cell.get_recurrent_dropout_mask(initial_state[0]), sequences.dtype)
        outputs, *state = peephole_lstm(
            sequences,
            (ops.cast(initial_state[0], sequences.dtype), initial_state[1]),
            cell.kernel.value,
            cell.recurrent_kernel.value,
            None if cell.bias is None else cell.bias.value,
            [peephole.value for peephole in cell.peepholes],
            mask=mask,
            recurrent_dropout_mask=recurrent_mask,
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )
        return outputs[:, -1], outputs, state

    def get_config(self):
        config, cell = super().get_config(), self.cell.get_config()
        del config["cell"]
        return {**cell, **config, "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
