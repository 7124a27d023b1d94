"""A recurrent cell that attends to a memory at each step."""

import numbers

import keras
from keras import ops
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # what keras.layers.RNN knows such cells by

from keras_dl.layers.attention.inputs import require_attention, require_shapes, without_padding
from keras_dl.layers.recurrent_cell import (
    cells_of,
    draw_dropout,
    first_states,
    forget_dropout,
    output_size,
    require_cell,
    run_cell,
    state_sizes,
)

MEMORY_WANTED = (
    "Expected a memory: RNN(cell)(inputs, initial_state=cell.get_initial_state(memory=...)), or its shape: "
    "build(input_shape, memory_shape)"
)


@keras.saving.register_keras_serializable("keras_dl")
class AttentionCell(keras.layers.Layer, DropoutRNNCell):
    """Any recurrent cell, with attention over a memory: `tensorflow_addons.seq2seq.AttentionWrapper` for Keras 3.

    With x the inputs, h the output and s the states of the cell, ' for the step before:

        query="new" (Luong et al. 2015)             query="previous" (Bahdanau et al. 2015)
        h, s      = cell([x ; attention'], s')      context   = attend(h')
        context   = attend(h)                       h, s      = cell([x ; context], s')
        attention = f([h ; context] W)              attention = f([h ; context] W)

    Without `attention_units` the attention is the context itself. For many steps at once take `AttentionRNN`, which
    projects the memory once. A decoder does the same with `prepare`, `start` and `step`:

        prepared = cell.prepare(memory, memory_mask)
        states = cell.start(prepared)
        output, states = cell.step(inputs, states, prepared)

    It also runs in `keras.layers.RNN`, where the memory is a state that never changes, and is projected in each step:

        keras.layers.RNN(cell)(inputs, initial_state=cell.get_initial_state(memory=memory))

    There, a mask over time needs a memory whose number of steps is known beforehand.

    `get_weights()` gives W (N + Dm, A) if there is one, the weights of the cell, then those of the attention: the order
    of Addons.

    Args:
        cell: a recurrent cell, also `keras.layers.StackedRNNCells`, whose query is the output of the last.
        attention: a layer of `keras_dl.layers` such as `AdditiveAttention`.
        attention_units: int > 0, A; or None (default), the attention is the context.
        attention_activation: activation f. Defaults to None, linear; Luong et al. have `"tanh"`.
        query: `"new"` (default) or `"previous"`, the state of the cell that queries the memory. The previous one is the
            first state of the last cell, which has to be its output: so it is in LSTM, GRU, SimpleRNN and ESN cells.
        input_feeding: bool, whether the cell gets the attention of the step before. Defaults to True; False with
            `query="new"` only.
        output: `"attention"` (default) or `"cell"`, what the output is.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        inputs: float tensor `[B, D]`.
        states: list of `[*cell states, attention [B, A], alignment [B, S], memory [B, S, Dm], mask [B, S]]`.
        training: bool, whether to drop anything.

    Raises:
        ValueError: if an argument is out of range, `cell` is no cell or `attention` no attention, or the memory is not
            given, or has other features than the cell was built for.

    Example:

    >>> import keras
    >>> from keras_dl.layers import AdditiveAttention
    >>> cell = AttentionCell(keras.layers.GRUCell(8), AdditiveAttention(8), attention_units=6)
    >>> memory = keras.ops.ones((2, 7, 5))
    >>> states = cell.get_initial_state(memory=memory)
    >>> keras.layers.RNN(cell, return_sequences=True)(keras.ops.ones((2, 4, 3)), initial_state=states).shape
    TensorShape([2, 4, 6])
    >>> prepared = cell.prepare(memory)
    >>> output, states = cell.step(keras.ops.ones((2, 3)), cell.start(prepared), prepared)
    >>> output.shape, states[-1].shape
    (TensorShape([2, 6]), TensorShape([2, 7]))

    References: Luong et al. 2015, sections 3.1 and 3.3, https://arxiv.org/abs/1508.04025; Bahdanau et al. 2015,
    https://arxiv.org/abs/1409.0473
    """

    def __init__(
        self,
        cell,
        attention,
        attention_units=None,
        attention_activation=None,
        query="new",
        input_feeding=True,
        output="attention",
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_cell(cell)
        require_attention(attention)
        if attention_units is not None and (not isinstance(attention_units, numbers.Integral) or attention_units < 1):
            raise ValueError(
                f"`attention_units` must be None or an integer of at least 1. Received: {attention_units!r}"
            )
        for name, value, known in (("query", query, ("new", "previous")), ("output", output, ("attention", "cell"))):
            if value not in known:
                raise ValueError(f"`{name}` must be {known[0]!r} or {known[1]!r}. Received: {value!r}")
        if query == "previous" and not input_feeding:
            raise ValueError("`input_feeding=False` needs `query='new'`: else the attention would be of no use")
        self.cell = cell
        self.attention = attention
        self.attention_units = None if attention_units is None else int(attention_units)
        self.attention_activation = keras.activations.get(attention_activation)
        self.query = query
        self.input_feeding = input_feeding
        self.output_kind = output  # `output` itself is of every layer of Keras
        self.memory_features = None

    def build(self, input_shape, memory_shape=None):
        """Makes the weights.

        Args:
            input_shape: `(B, D)`.
            memory_shape: `(B, S, Dm)`. Defaults to that of the memory that `get_initial_state` was given.
        """
        if memory_shape is not None:
            self.memory_features = memory_shape[-1]
        features = self._require_memory_features()
        units, fed = output_size(self.cell), 0
        if self.query == "previous":
            fed = features
        elif self.input_feeding:
            fed = self.attention_size
        self.input_features, self.cell_features = input_shape[-1], input_shape[-1] + fed
        self.kernel = None
        if self.attention_units:
            self.kernel = self.add_weight((units + features, self.attention_units), name="attention_kernel")
        if not self.cell.built:
            self.cell.build((input_shape[0], self.cell_features))
        if not self.attention.built:
            self.attention.build((None, None, units), (None, None, features))

    def get_build_config(self):
        if not self.built:
            return None
        return {"input_shape": (None, self.input_features), "memory_shape": (None, None, self.memory_features)}

    def build_from_config(self, config):
        self.build(config["input_shape"], config["memory_shape"])

    def prepare(self, memory, memory_mask=None):
        """What is computed once a memory.

        Args:
            memory: float tensor `[B, S, Dm]`.
            memory_mask: bool tensor `[B, S]`, False at padding, whose content is without effect; or None.

        Returns:
            dict of `keys` `[B, S, features]`, `values` `[B, S, Dm]` and `mask`, bool `[B, S]`.
        """
        values, mask = self._clean(memory, memory_mask)
        return {"keys": self.attention.project_key(values), "values": values, "mask": mask}

    def start(self, prepared, cell_states=None, training=False):
        """The states before the first step; to be called once a sequence, outside the loop over steps.

        Args:
            prepared: what `prepare` gave.
            cell_states: the states that the cell starts from, as a list or nested as they are in the cell. Defaults to
                those that it has itself.
            training: bool. Dropout of the cell is drawn here, once for all steps.

        Returns:
            list of `[*cell states, attention [B, A], alignment [B, S]]`.
        """
        self.reset_dropout_mask()
        if training:
            self.get_dropout_mask(prepared["values"])
        return self._first_states(prepared["values"], cell_states)

    def step(self, inputs, states, prepared, training=False):
        """One step.

        Args:
            inputs: float tensor `[B, D]`.
            states: list of tensors, what `start` or the step before gave.
            prepared: what `prepare` gave.
            training: bool, whether to drop anything.

        Returns:
            `(output [B, A or N], states)`; `states[-1]`, `[B, S]`, says what this step attended to.
        """
        *cell_states, attention, previous = states
        inputs, features = ops.cast(inputs, self.compute_dtype), []

        def attend(query):
            options = {"value_mask": prepared["mask"], "previous": previous, "training": training}
            return self.attention.step(query, prepared["keys"], prepared["values"], **options)

        if self.query == "previous":
            context, alignment = attend(cell_states[-len(state_sizes(cells_of(self.cell)[-1]))])
            features = [context]
        elif self.input_feeding:
            features = [attention]
        fed = ops.concatenate([inputs, *features], axis=-1)
        hidden, cell_states = run_cell(self.cell, fed, cell_states, training)
        if self.query == "new":
            context, alignment = attend(hidden)
        attention = ops.cast(context, self.compute_dtype)
        if self.kernel is not None:
            both = ops.concatenate([hidden, attention], axis=-1)
            attention = self.attention_activation(ops.matmul(both, ops.cast(self.kernel, self.compute_dtype)))
        alignment = ops.cast(alignment, self.compute_dtype)
        return attention if self.output_kind == "attention" else hidden, [*cell_states, attention, alignment]

    def call(self, inputs, states, training=False):
        *states, memory, mask = states
        prepared = {"keys": self.attention.project_key(memory), "values": memory, "mask": mask > 0.5}
        output, states = self.step(inputs, states, prepared, training)
        return output, [*states, memory, mask]

    def get_initial_state(self, batch_size=None, memory=None, memory_mask=None, cell_states=None):
        """The `initial_state` of `keras.layers.RNN`.

        Args:
            batch_size: what Keras gives where no state is given; ignored, for the memory is needed.
            memory: float tensor `[B, S, Dm]`, also of the functional API.
            memory_mask: bool tensor `[B, S]`, False at padding; Keras' mask of `memory` by default.
            cell_states: as in `start`.

        Returns:
            list of `[*cell states, attention [B, A], alignment [B, S], memory [B, S, Dm], mask [B, S]]`, the mask as
            float.
        """
        if memory is None:
            raise ValueError(f"{MEMORY_WANTED}. Received: none")
        memory, mask = self._clean(memory, getattr(memory, "_keras_mask", None) if memory_mask is None else memory_mask)
        if not self.built:  # `build` is called by Keras, which knows nothing of the memory
            self.memory_features = memory.shape[-1]
        return [*self._first_states(memory, cell_states), memory, ops.cast(mask, self.compute_dtype)]

    def _clean(self, memory, mask):
        if mask is not None and not isinstance(mask, keras.KerasTensor):
            mask = ops.convert_to_tensor(mask)
        require_shapes((None, None, None), memory.shape, None, None, None if mask is None else mask.shape)
        if self.built and memory.shape[-1] != self.memory_features:
            expected = f"Expected a memory of {self.memory_features} features, as the cell was built for"
            raise ValueError(f"{expected}. Received: shape {tuple(memory.shape)}")
        memory = ops.cast(memory, self.compute_dtype)
        mask = ops.ones_like(memory[..., 0], "bool") if mask is None else ops.cast(mask, "bool")
        return without_padding(memory, mask), mask

    def _first_states(self, memory, cell_states):
        zeros = ops.zeros_like(memory[:, 0, :1])  # of as many rows, also where that is a tensor of the functional API
        cell_states = [ops.cast(state, self.compute_dtype) for state in first_states(self.cell, zeros, cell_states)]
        attention = ops.repeat(zeros, self.attention_size, axis=-1)
        return [*cell_states, attention, ops.cast(self.attention.initial_alignment(memory), self.compute_dtype)]

    def _require_memory_features(self):
        if self.memory_features is None:
            raise ValueError(f"{MEMORY_WANTED}. Received: none")
        return self.memory_features

    @property
    def state_size(self):
        """As `keras.layers.RNN` asks for it; `()` for what a cell cannot know."""
        attention = self.attention_units or self.memory_features or ()
        return [*state_sizes(self.cell), attention, (), (), ()]

    @property
    def attention_size(self):
        """int, A."""
        return self.attention_units or self._require_memory_features()

    @property
    def output_size(self):
        return output_size(self.cell) if self.output_kind == "cell" else self.attention_size

    def get_dropout_mask(self, step_input):
        """Draws the dropout of the cells within, one mask for all steps; `keras.layers.RNN` calls it ahead of the loop.

        Args:
            step_input: tensor `[B, ...]`.
        """
        draw_dropout(self.cell, ops.zeros((ops.shape(step_input)[0], 1), self.compute_dtype), self.cell_features)

    def get_recurrent_dropout_mask(self, step_input):
        """Part of `get_dropout_mask`."""

    def reset_dropout_mask(self):
        """Forgets what was drawn."""
        forget_dropout(self.cell)

    def reset_recurrent_dropout_mask(self):
        """Part of `reset_dropout_mask`."""

    def get_config(self):
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "attention_units": self.attention_units,
            "attention_activation": keras.activations.serialize(self.attention_activation),
            "query": self.query,
            "input_feeding": self.input_feeding,
            "output": self.output_kind,
        }

    @classmethod
    def from_config(cls, config):
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("cell", "attention")}
        return cls(**{**config, **parts})
