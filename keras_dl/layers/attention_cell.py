"""A recurrent cell that attends to a memory at each step."""

import keras
from keras import ops

from keras_dl.compat.keras import DropoutRNNCell
from keras_dl.layers.attention.inputs import require_attention, require_shapes
from keras_dl.layers.padding import without_padding
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
from keras_dl.ops.checks import require_count

MEMORY_REQUIRED = (
    "Expected a memory: RNN(cell)(inputs, initial_state=cell.get_initial_state(memory=...)), or its shape: "
    "build(input_shape, memory_shape)"
)


@keras.saving.register_keras_serializable("keras_dl")
class AttentionCell(keras.layers.Layer, DropoutRNNCell):
    """A recurrent cell with attention over a memory: `tensorflow_addons.seq2seq.AttentionWrapper` for Keras 3.

    With inputs x, output h and states s of the cell, and ' for the previous step:

        query="new" (Luong et al. 2015)             query="previous" (Bahdanau et al. 2015)
        h, s      = cell([x ; attention'], s')      context   = attend(h')
        context   = attend(h)                       h, s      = cell([x ; context], s')
        attention = f([h ; context] W)              attention = f([h ; context] W)

    Without `attention_units`, the attention is the context itself. For whole sequences, use `AttentionRNN`, which
    projects the memory once. A decoder does the same with `prepare`, `start` and `step`:

        prepared = cell.prepare(memory, memory_mask)
        states = cell.start(prepared)
        output, states = cell.step(inputs, states, prepared)

    The cell also runs in `keras.layers.RNN`, where the memory is a constant state that is projected at each step:

        keras.layers.RNN(cell)(inputs, initial_state=cell.get_initial_state(memory=memory))

    A mask over time then requires a memory with a statically known number of steps.

    `get_weights()` returns W (N + Dm, A) if there is one, the weights of the cell, then those of the attention: the
    order of Addons.

    Args:
        cell: a recurrent cell or `keras.layers.StackedRNNCells`; in a stack, the last cell queries the memory.
        attention: a layer of `keras_dl.layers` such as `AdditiveAttention`.
        attention_units: int, A. Defaults to None: the attention is the context.
        attention_activation: activation f. Defaults to None, linear; Luong et al. use `"tanh"`.
        query: `"new"` (default) or `"previous"`, the state of the cell that queries the memory. The previous one is the
            first state of the last cell and must be its output, as in LSTM, GRU, SimpleRNN and ESN cells.
        input_feeding: bool, whether the cell receives the attention of the previous step. Defaults to True; False
            requires `query="new"`.
        output: `"attention"` (default) or `"cell"`, which of the two to return.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, D]`.
        states: list of `[*cell states, attention [B, A], alignment [B, S], memory [B, S, Dm], mask [B, S]]`.
        training: bool, whether to apply dropout.

    Raises:
        ValueError: if an argument is out of range, `cell` is not a cell or `attention` not an attention layer, or the
            memory is missing or does not have the number of features that the cell was built for.

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
        if attention_units is not None:
            attention_units = require_count("attention_units", attention_units)
        for name, value, known in (("query", query, ("new", "previous")), ("output", output, ("attention", "cell"))):
            if value not in known:
                raise ValueError(f"`{name}` must be {known[0]!r} or {known[1]!r}. Received: {value!r}")
        if query == "previous" and not input_feeding:
            raise ValueError("`input_feeding=False` requires `query='new'`. Received: query='previous'")
        self.cell = cell
        self.attention = attention
        self.attention_units = attention_units
        self.attention_activation = keras.activations.get(attention_activation)
        self.query = query
        self.input_feeding = input_feeding
        self.output_kind = output  # `output` is a property of Keras layers
        self.memory_features = None

    def build(self, input_shape, memory_shape=None):
        """Creates the weights.

        Args:
            input_shape: `(B, D)`.
            memory_shape: `(B, S, Dm)`. Defaults to the shape of the memory passed to `get_initial_state`.
        """
        if memory_shape is not None:
            self.memory_features = memory_shape[-1]
        features = self._require_memory_features()
        units, feedback = output_size(self.cell), 0
        if self.query == "previous":
            feedback = features
        elif self.input_feeding:
            feedback = self.attention_size
        self.input_features, self.cell_features = input_shape[-1], input_shape[-1] + feedback
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
        """Computes everything that depends only on the memory.

        Args:
            memory: float tensor `[B, S, Dm]`.
            memory_mask: bool tensor `[B, S]`, False at padding, whose content has no effect; or None.

        Returns:
            dict of `keys` `[B, S, features]`, `values` `[B, S, Dm]` and `mask`, bool `[B, S]`.
        """
        values, mask = self._checked_memory(memory, memory_mask)
        return {"keys": self.attention.project_key(values), "values": values, "mask": mask}

    def start(self, prepared, cell_states=None, training=False):
        """Returns the states before the first step. Call it once per sequence, outside the loop over steps.

        Args:
            prepared: dict, the result of `prepare`.
            cell_states: initial states of the inner cell, as a list or nested as in the cell. Defaults to those of the
                cell.
            training: bool, whether to draw the dropout masks of the cell, one for all steps.

        Returns:
            list of `[*cell states, attention [B, A], alignment [B, S]]`.
        """
        self.reset_dropout_mask()
        if training:
            self.get_dropout_mask(prepared["values"])
        return self._first_states(prepared["values"], cell_states)

    def step(self, inputs, states, prepared, training=False):
        """Computes one step.

        Args:
            inputs: float tensor `[B, D]`.
            states: list of tensors, the result of `start` or of the previous step.
            prepared: dict, the result of `prepare`.
            training: bool, whether to apply dropout.

        Returns:
            `(output [B, A or N], states)`; `states[-1]`, `[B, S]`, is the alignment of this step.
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
        inputs = ops.concatenate([inputs, *features], axis=-1)
        hidden, cell_states = run_cell(self.cell, inputs, cell_states, training)
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
        """Returns the `initial_state` for `keras.layers.RNN`.

        Args:
            batch_size: passed by Keras if there is no initial state; ignored, because the memory is required.
            memory: float tensor `[B, S, Dm]`, possibly symbolic.
            memory_mask: bool tensor `[B, S]`, False at padding. Defaults to the Keras mask of `memory`.
            cell_states: as in `start`.

        Returns:
            list of `[*cell states, attention [B, A], alignment [B, S], memory [B, S, Dm], mask [B, S]]`; the mask is a
            float tensor.
        """
        if memory is None:
            raise ValueError(f"{MEMORY_REQUIRED}. Received: none")
        memory, mask = self._checked_memory(
            memory, getattr(memory, "_keras_mask", None) if memory_mask is None else memory_mask
        )
        if not self.built:  # Keras calls `build` without the memory
            self.memory_features = memory.shape[-1]
        return [*self._first_states(memory, cell_states), memory, ops.cast(mask, self.compute_dtype)]

    def _checked_memory(self, memory, mask):
        if mask is not None and not isinstance(mask, keras.KerasTensor):
            mask = ops.convert_to_tensor(mask)
        require_shapes((None, None, None), memory.shape, None, None, None if mask is None else mask.shape)
        if self.built and memory.shape[-1] != self.memory_features:
            expected = f"Expected a memory with {self.memory_features} features, as in `build`"
            raise ValueError(f"{expected}. Received: shape {tuple(memory.shape)}")
        memory = ops.cast(memory, self.compute_dtype)
        mask = ops.ones_like(memory[..., 0], "bool") if mask is None else ops.cast(mask, "bool")
        return without_padding(memory, mask), mask

    def _first_states(self, memory, cell_states):
        zeros = ops.zeros_like(memory[:, 0, :1])  # has the batch size, even in the functional API
        cell_states = [ops.cast(state, self.compute_dtype) for state in first_states(self.cell, zeros, cell_states)]
        attention = ops.repeat(zeros, self.attention_size, axis=-1)
        return [*cell_states, attention, ops.cast(self.attention.initial_alignment(memory), self.compute_dtype)]

    def _require_memory_features(self):
        if self.memory_features is None:
            raise ValueError(f"{MEMORY_REQUIRED}. Received: none")
        return self.memory_features

    @property
    def state_size(self):
        """Sizes of the states for `keras.layers.RNN`; `()` if the cell cannot know them."""
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
        """Draws the dropout masks of the inner cells, one for all steps; `keras.layers.RNN` calls it before the loop.

        Args:
            step_input: tensor `[B, ...]`.
        """
        draw_dropout(self.cell, ops.zeros((ops.shape(step_input)[0], 1), self.compute_dtype), self.cell_features)

    def get_recurrent_dropout_mask(self, step_input):
        """Does nothing: `get_dropout_mask` draws these masks too."""

    def reset_dropout_mask(self):
        """Discards the dropout masks of the inner cells."""
        forget_dropout(self.cell)

    def reset_recurrent_dropout_mask(self):
        """Does nothing: `reset_dropout_mask` discards these masks too."""

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
