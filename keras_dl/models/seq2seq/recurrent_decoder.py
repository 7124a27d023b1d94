"""A recurrent decoder, with or without attention to the source."""

import keras
from keras import ops

from keras_dl.layers import AttentionCell, PeepholeLSTMCell
from keras_dl.models.seq2seq.recurrent_encoder import Encoded, check_cell, check_sizes
from keras_dl.models.seq2seq.scheduled_sampling import drawn_places
from keras_dl.ops.precision import wide
from keras_dl.ops.scan import scan

CELLS = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell, "peephole": PeepholeLSTMCell}
CONTEXTS = ("every_step", "first_state")
QUERIES = ("new", "previous")


@keras.saving.register_keras_serializable("keras_dl")
class RecurrentDecoder(keras.layers.Layer):
    """A stack of recurrent cells over the previous tokens, optionally with attention to the encoder's memory.

    With attention, each step's output is `tanh(W [h ; context])` and is fed to the next step together with the token
    (Luong 2015); with `query="previous"`, the context is computed first and fed in with the token (Bahdanau 2015).
    Without attention, the source is a fixed vector: an input of every step (Cho 2014), or only the initial state
    (Sutskever 2014). The initial state is always `tanh(W summary + b)`.

    Args:
        vocabulary: int, the number of ids, `Tokenizer.size`.
        units: int, units of each cell and of the output.
        embedding: int, the embedding size. Defaults to 64.
        depth: int, the number of cells. Defaults to 1.
        cell: `"lstm"` (default), `"gru"` or `"peephole"`.
        attention: a layer of `keras_dl.layers` such as `AdditiveAttention(units)`, or None (default).
        context: without attention, `"every_step"` (default) or `"first_state"`.
        query: with attention, the state used as the query: `"new"` (default), after the step, or `"previous"`, before
            it.
        input_feeding: bool, with `query="new"`, whether each output is an input of the next step. Defaults to True.
        dropout: float in [0, 1), after the embedding and before the projection. Defaults to 0.
        scheduled_sampling: bool, whether to replace tokens during training with the decoder's own most probable ones,
            with probability `sampling_probability`, a weight that starts at 0 and is set by `ScheduledSampling`.
            Defaults to False.
        seed: int, seed of this sampling. Defaults to None.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        target: int tensor `[B, T]`, beginning with the start token.
        memory, memory_mask, summary: the fields of `Encoded`.
        training: bool.

    Returns:
        float tensor `[B, T, vocabulary]`: logits of the token after each position; float32 also in half precision.

    Raises:
        ValueError: if `cell`, `context` or `query` is unknown, a size is below 1, or `attention` is not an attention
            layer.

    Example:

    >>> from keras_dl.layers import AdditiveAttention
    >>> from keras_dl.models.seq2seq import RecurrentEncoder
    >>> encoded = RecurrentEncoder(vocabulary=9, units=4)(ops.array([[4, 5, 6], [7, 0, 0]]))
    >>> decoder = RecurrentDecoder(vocabulary=7, units=8, attention=AdditiveAttention(8))
    >>> decoder(ops.array([[2, 4], [2, 5]]), *encoded).shape
    TensorShape([2, 2, 7])

    References: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473; Luong et al. 2015, section 3.3,
    https://arxiv.org/abs/1508.04025; Cho et al. 2014, https://arxiv.org/abs/1406.1078; Sutskever et al. 2014,
    https://arxiv.org/abs/1409.3215
    """

    def __init__(
        self,
        vocabulary,
        units,
        embedding=64,
        depth=1,
        cell="lstm",
        attention=None,
        context="every_step",
        query="new",
        input_feeding=True,
        dropout=0.0,
        scheduled_sampling=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_cell(cell)
        check_sizes(vocabulary=vocabulary, units=units, embedding=embedding, depth=depth)
        for name, value, known in (("context", context, CONTEXTS), ("query", query, QUERIES)):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}. Received: {value!r}")
        self.vocabulary, self.units, self.embedding, self.depth = vocabulary, units, embedding, depth
        self.cell, self.context, self.query, self.input_feeding = cell, context, query, input_feeding
        self.dropout, self.scheduled_sampling, self.seed = dropout, scheduled_sampling, seed
        self.attention = attention
        dtype = self.dtype_policy
        self.embed = keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embed")
        cells = [CELLS[cell](units, dtype=dtype, name=f"{cell}_{number}") for number in range(depth)]
        self.stack = cells[0] if depth == 1 else keras.layers.StackedRNNCells(cells, dtype=dtype, name="stack")
        if attention is not None:
            self.attended = AttentionCell(
                self.stack,
                attention,
                attention_units=units if query == "new" else None,
                attention_activation="tanh",
                query=query,
                input_feeding=input_feeding,
                output="attention" if query == "new" else "cell",
                dtype=dtype,
                name="attended",
            )
        self.bridges = [
            keras.layers.Dense(size, activation="tanh", dtype=dtype, name=f"bridge_{number}")
            for number, size in enumerate(keras.tree.flatten(self.stack.state_size))
        ]
        self.drop = keras.layers.Dropout(dropout, dtype=dtype)
        self.project = keras.layers.Dense(vocabulary, dtype=wide(self.compute_dtype), name="logits")
        self.seeds = keras.random.SeedGenerator(seed) if scheduled_sampling else None
        self.sampling_probability = None

    def build(self, target_shape, memory_shape, memory_mask_shape=None, summary_shape=None):
        self.embed.build(target_shape)
        for bridge in self.bridges:
            bridge.build(summary_shape)
        if self.attention is not None:
            self.attended.build((None, self.embedding), memory_shape)
        else:
            context = summary_shape[-1] if self.context == "every_step" else 0
            self.stack.build((None, self.embedding + context))
        self.project.build((None, self.units))
        if self.scheduled_sampling:
            options = {"dtype": "float32", "autocast": False, "trainable": False}
            self.sampling_probability = self.add_weight((), "zeros", name="sampling_probability", **options)

    def call(self, target, memory, memory_mask, summary, training=None):
        encoded = Encoded(memory, memory_mask, summary)
        prepared = self.prepare(encoded)
        state = self.start(encoded, prepared)
        if not (self.scheduled_sampling and training):
            x = self.drop(self.embed(target), training=training)

            def read(carry, slices):
                return self._advance(slices[0], carry[1:], prepared, training)

            inputs = [ops.swapaxes(x, 0, 1)]
        else:
            # The positions are drawn before the loop; the predictions exist only inside it.
            replaced = drawn_places(target, self.sampling_probability, self.seeds)

            def read(carry, slices):
                token, is_replaced = slices
                predicted = ops.cast(ops.argmax(self._logits(carry[0], training=False), axis=-1), token.dtype)
                x = self.drop(self.embed(ops.where(is_replaced, predicted, token)), training=training)
                return self._advance(x, carry[1:], prepared, training)

            inputs = [ops.transpose(target), ops.transpose(replaced)]
        first = ops.zeros((ops.shape(target)[0], self.units), self.compute_dtype)
        _, outputs = scan(read, [first, *state], inputs)
        return self._logits(ops.swapaxes(outputs, 0, 1), training)

    def prepare(self, encoded):
        """Returns the inputs that all steps share: keys, values and mask of the memory, or the summary."""
        if self.attention is not None:
            return self.attended.prepare(encoded.memory, encoded.mask)
        return encoded.summary

    def start(self, encoded, prepared):
        """Returns the initial state, a list of tensors `[B, ...]`."""
        cell_states = [bridge(encoded.summary) for bridge in self.bridges]
        return cell_states if self.attention is None else self.attended.start(prepared, cell_states)

    def step(self, tokens, time, state, prepared):
        """Reads one token per row.

        Args:
            tokens: int tensor `[B]`.
            time: int tensor `[]`, the number of tokens read before; ignored here.
            state, prepared: from `start` and `prepare`.

        Returns:
            `(logits [B, vocabulary], state, alignment [B, S])`; the alignment is None without attention.
        """
        output, *state = self._advance(self.embed(tokens), state, prepared, training=False)
        return self._logits(output, training=False), state, None if self.attention is None else state[-1]

    def _advance(self, x, state, prepared, training):
        """Runs one step of the cells and returns `[output, *state]`."""
        if self.attention is not None:
            output, state = self.attended.step(x, state, prepared, training=training)
            return [output, *state]
        if self.context == "every_step":
            x = ops.concatenate([x, prepared], axis=-1)
        states = keras.tree.pack_sequence_as(self.stack.state_size, state) if self.depth > 1 else state
        output, states = self.stack(x, states, training=training)
        return [output, *keras.tree.flatten(states)]

    def _logits(self, outputs, training):
        return self.project(self.drop(outputs, training=training))

    def compute_output_spec(self, target, memory, memory_mask, summary, training=None):
        return keras.KerasTensor((*target.shape, self.vocabulary), dtype=self.project.compute_dtype)

    def get_config(self):
        names = ("vocabulary", "units", "embedding", "depth", "cell", "context", "query", "input_feeding", "dropout")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "attention": keras.saving.serialize_keras_object(self.attention),
            "scheduled_sampling": self.scheduled_sampling,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "attention": keras.saving.deserialize_keras_object(config["attention"])})
