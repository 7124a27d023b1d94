"""A recurrent network that says a target sequence, with attention to the source or without."""

import keras
from keras import ops

from keras_dl.layers import AttentionCell, PeepholeLSTMCell
from keras_dl.models.seq2seq.recurrent_encoder import Encoded, check_cell, check_sizes
from keras_dl.models.seq2seq.scheduled_sampling import drawn_places
from keras_dl.ops.scan import scan

CELLS = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell, "peephole": PeepholeLSTMCell}
CONTEXTS = ("every_step", "first_state")
QUERIES = ("new", "previous")


@keras.saving.register_keras_serializable("keras_dl")
class RecurrentDecoder(keras.layers.Layer):
    """A stack of recurrent cells that reads the token before and, if it has attention, the memory.

    With attention each step's output is `tanh(W [h ; context])`, fed to the next step beside the token (Luong 2015); or
    with `query="previous"` the context is looked up first and read with the token (Bahdanau 2015). Without attention
    the source is a fixed vector: read at every step (Cho 2014), or the first state and nothing more (Sutskever 2014).
    The first state is always `tanh(W summary + b)`.

    Args:
        vocabulary: int, the number of ids, `Tokenizer.size`.
        units: int, of each cell and of the output.
        embedding: int, features of an id. Defaults to 64.
        depth: int, the number of cells. Defaults to 1.
        cell: `"lstm"` (default), `"gru"` or `"peephole"`.
        attention: a layer of `keras_dl.layers` such as `AdditiveAttention(units)`, or None (default).
        context: without attention, `"every_step"` (default) or `"first_state"`.
        query: with attention, `"new"` (default): asked with the state after the step; `"previous"`: before it.
        input_feeding: bool, with `query="new"`, whether the next step reads this one's output. Defaults to True.
        dropout: float from 0 to below 1, after the embedding and before the projection. Defaults to 0.
        scheduled_sampling: bool, whether `sampling_probability`, a weight that starts at 0, replaces tokens in training
            by the decoder's own most probable ones; set by `ScheduledSampling`. Defaults to False.
        seed: int, of that sampling. Defaults to None.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        target: int tensor `[B, T]`, beginning with the start token.
        memory, memory_mask, summary: of `Encoded`.
        training: bool.

    Returns:
        float32 tensor `[B, T, vocabulary]`: logits of the token after each.

    Raises:
        ValueError: for an unknown `cell`, `context` or `query`, sizes below 1, or an `attention` that is none.

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
        self.project = keras.layers.Dense(vocabulary, dtype="float32", name="logits")
        self.seeds = keras.random.SeedGenerator(seed) if scheduled_sampling else None
        self.sampling_probability = None

    def build(self, target_shape, memory_shape, memory_mask_shape=None, summary_shape=None):
        self.embed.build(target_shape)
        for bridge in self.bridges:
            bridge.build(summary_shape)
        if self.attention is not None:
            self.attended.build((None, self.embedding), memory_shape)
        else:
            more = summary_shape[-1] if self.context == "every_step" else 0
            self.stack.build((None, self.embedding + more))
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
            # Which tokens are the decoder's own is drawn ahead: what it says is known in the loop alone.
            own = drawn_places(target, self.sampling_probability, self.seeds)

            def read(carry, slices):
                token, replaced = slices
                said = ops.cast(ops.argmax(self._logits(carry[0], training=False), axis=-1), token.dtype)
                x = self.drop(self.embed(ops.where(replaced, said, token)), training=training)
                return self._advance(x, carry[1:], prepared, training)

            inputs = [ops.transpose(target), ops.transpose(own)]
        nothing = ops.zeros((ops.shape(target)[0], self.units), self.compute_dtype)
        _, outputs = scan(read, [nothing, *state], inputs)
        return self._logits(ops.swapaxes(outputs, 0, 1), training)

    def prepare(self, encoded):
        """What stays the same through all steps: keys, values and mask of the memory, or the summary."""
        if self.attention is not None:
            return self.attended.prepare(encoded.memory, encoded.mask)
        return encoded.summary

    def start(self, encoded, prepared):
        """The state before the first step, a list of tensors `[B, ...]`."""
        cell_states = [bridge(encoded.summary) for bridge in self.bridges]
        return cell_states if self.attention is None else self.attended.start(prepared, cell_states)

    def step(self, tokens, time, state, prepared):
        """Reads one token of each row.

        Args:
            tokens: int tensor `[B]`.
            time: int tensor `[]`, how many were read before; of no matter here.
            state, prepared: of `start` and `prepare`.

        Returns:
            `(logits [B, vocabulary], state, alignment [B, S])`, the alignment None without attention.
        """
        output, *state = self._advance(self.embed(tokens), state, prepared, training=False)
        return self._logits(output, training=False), state, None if self.attention is None else state[-1]

    def _advance(self, x, state, prepared, training):
        """One step of the cells: `[output, *state]`."""
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
        return keras.KerasTensor((*target.shape, self.vocabulary), dtype="float32")

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
