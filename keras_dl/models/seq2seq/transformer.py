"""A transformer encoder and decoder with the interface of the recurrent ones."""

import keras
from keras import ops

from keras_dl.models.seq2seq.recurrent_encoder import Encoded, check_sizes
from keras_dl.models.seq2seq.scheduled_sampling import mix
from keras_dl.models.seq2seq.transformer_blocks import AttentionBlock, FeedForwardBlock, sinusoidal_positions
from keras_dl.ops.precision import wide


class Transformer(keras.layers.Layer):
    """The common base of encoder and decoder: sizes, and the embedding of ids and positions.

    Args:
        vocabulary, units, heads, depth, hidden, dropout: see `TransformerEncoder`.

    Raises:
        ValueError: if a size is below 1, or `units` is odd or not a multiple of `heads`.

    Example:

    >>> Transformer(vocabulary=9, units=8).embedded(ops.array([[4, 5, 6]])).shape
    TensorShape([1, 3, 8])
    """

    def __init__(self, vocabulary, units, heads=4, depth=2, hidden=None, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        hidden = hidden or 4 * units
        check_sizes(vocabulary=vocabulary, units=units, heads=heads, depth=depth, hidden=hidden)
        if units % heads or units % 2:
            raise ValueError(f"`units` must be even and a multiple of `heads`. Received: {units} and {heads}")
        self.vocabulary, self.units, self.heads, self.depth = vocabulary, units, heads, depth
        self.hidden, self.dropout = hidden, dropout
        dtype = self.dtype_policy
        self.embed = keras.layers.Embedding(vocabulary, units, dtype=dtype, name="embed")
        self.drop = keras.layers.Dropout(dropout, dtype=dtype)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name="norm")

    def blocks(self, kind):
        """Creates one attention block per layer."""
        options = (self.units, self.heads, self.dropout)
        dtype = self.dtype_policy
        return [AttentionBlock(*options, dtype=dtype, name=f"{kind}_{number}") for number in range(self.depth)]

    def feed_forwards(self):
        """Creates one feed-forward block per layer."""
        options = (self.units, self.hidden, self.dropout)
        dtype = self.dtype_policy
        return [FeedForwardBlock(*options, dtype=dtype, name=f"feed_{number}") for number in range(self.depth)]

    def embedded(self, ids, start=0):
        """Embeds ids `[B, T]` and adds their positions: `[B, T, units]`."""
        x = self.embed(ids) * ops.cast(self.units**0.5, self.compute_dtype)
        positions = sinusoidal_positions(ops.shape(ids)[1], self.units, start, wide(self.compute_dtype))
        return x + ops.cast(positions, x.dtype)

    def get_config(self):
        names = ("vocabulary", "units", "heads", "depth", "hidden", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_dl")
class TransformerEncoder(Transformer):
    """A pre-norm transformer encoder. Padding, id 0, does not change the result.

    Args:
        vocabulary: int, the number of ids, `Tokenizer.size`.
        units: int, the model dimension; even, and a multiple of `heads`.
        heads: int, number of attention heads. Defaults to 4.
        depth: int, the number of layers. Defaults to 2.
        hidden: int, hidden units of the feed-forward blocks. Defaults to `4 * units`.
        dropout: float in [0, 1), after the embedding and in each block. Defaults to 0.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        source: int tensor `[B, S]`; 0 is padding.
        training: bool, whether to apply dropout.

    Returns:
        `Encoded`: memory `[B, S, units]`; the summary is the mean of the memory over each row's symbols.

    Raises:
        ValueError: if a size is below 1, or `units` is odd or not a multiple of `heads`.

    Example:

    >>> encoded = TransformerEncoder(vocabulary=9, units=8)(ops.array([[4, 5, 6], [7, 0, 0]]))
    >>> encoded.memory.shape, encoded.summary.shape
    (TensorShape([2, 3, 8]), TensorShape([2, 8]))

    Reference: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.attentions, self.feeds = self.blocks("attention"), self.feed_forwards()

    def build(self, source_shape):
        for layer in (self.embed, self.norm, *self.attentions, *self.feeds):
            layer.build((None, None, self.units))

    def call(self, source, training=None):
        mask = ops.not_equal(source, 0)
        x = self.drop(self.embedded(source), training=training)
        for attention, feed in zip(self.attentions, self.feeds, strict=True):
            keys, values = attention.keys_values(attention.normalized(x))
            x = feed(attention(x, keys, values, value_mask=mask, training=training), training=training)
        x = self.norm(x)
        weights = ops.cast(mask, x.dtype)[..., None]
        summary = ops.sum(x * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)
        return Encoded(x, mask, summary)

    def compute_output_spec(self, source, training=None):
        batch, dtype = source.shape[0], self.compute_dtype
        return Encoded(
            keras.KerasTensor((*source.shape, self.units), dtype=dtype),
            keras.KerasTensor(source.shape, dtype="bool"),
            keras.KerasTensor((batch, self.units), dtype=dtype),
        )


@keras.saving.register_keras_serializable("keras_dl")
class TransformerDecoder(Transformer):
    """A pre-norm transformer decoder: causal self-attention, cross-attention and feed-forward blocks.

    `call` processes a whole target at once; `step` processes one token at a time with cached keys and values, and
    computes the same logits.

    Args:
        vocabulary, units, heads, depth, hidden, dropout: as in `TransformerEncoder`; the memory must have `units`
            features.
        scheduled_sampling: bool, whether to replace tokens during training with the decoder's own most probable ones,
            with probability `sampling_probability`, a weight that starts at 0 and is set by `ScheduledSampling`. A
            first pass computes the predictions, and a second pass reads them (Mihaylova and Martins 2019). Defaults to
            False.
        seed: int, seed of this sampling. Defaults to None.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        target: int tensor `[B, T]`, beginning with the start token.
        memory, memory_mask, summary: the fields of `Encoded`; the summary is not used.
        training: bool.

    Returns:
        float tensor `[B, T, vocabulary]`: logits of the token after each position; float32 also in half precision.

    Raises:
        ValueError: as for `TransformerEncoder`; on build, if the memory does not have `units` features.

    Example:

    >>> encoded = TransformerEncoder(vocabulary=9, units=8)(ops.array([[4, 5, 6], [7, 0, 0]]))
    >>> TransformerDecoder(vocabulary=7, units=8)(ops.array([[2, 4], [2, 5]]), *encoded).shape
    TensorShape([2, 2, 7])

    References: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; scheduled sampling: Mihaylova and Martins 2019,
    https://arxiv.org/abs/1906.07651
    """

    def __init__(self, *args, scheduled_sampling=False, seed=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.scheduled_sampling, self.seed = scheduled_sampling, seed
        self.selves, self.crosses, self.feeds = self.blocks("self"), self.blocks("cross"), self.feed_forwards()
        self.project = keras.layers.Dense(self.vocabulary, dtype=wide(self.compute_dtype), name="logits")
        self.seeds = keras.random.SeedGenerator(seed) if scheduled_sampling else None
        self.sampling_probability = None

    def build(self, target_shape, memory_shape=None, memory_mask_shape=None, summary_shape=None):
        if memory_shape is not None and memory_shape[-1] != self.units:
            raise ValueError(
                f"{self.name} requires a memory with {self.units} features, its `units`. Received: "
                f"{memory_shape[-1]} features"
            )
        for layer in (self.embed, self.norm, *self.selves, *self.crosses, *self.feeds, self.project):
            layer.build((None, None, self.units))
        if self.scheduled_sampling:
            options = {"dtype": "float32", "autocast": False, "trainable": False}
            self.sampling_probability = self.add_weight((), "zeros", name="sampling_probability", **options)

    def call(self, target, memory, memory_mask, summary=None, training=None):
        prepared = self.prepare(Encoded(memory, memory_mask, summary))
        if self.scheduled_sampling and training:
            predicted = ops.argmax(self._read(target, prepared, training=False), axis=-1)
            target = mix(target, predicted, self.sampling_probability, self.seeds)
        return self._read(target, prepared, training)

    def _read(self, target, prepared, training):
        memories, mask = prepared
        x = self.drop(self.embedded(target), training=training)
        for own, cross, feed, (keys, values) in zip(self.selves, self.crosses, self.feeds, memories, strict=True):
            x = own(x, *own.keys_values(own.normalized(x)), use_causal_mask=True, training=training)
            x = feed(cross(x, keys, values, value_mask=mask, training=training), training=training)
        return self.project(self.norm(x))

    def prepare(self, encoded):
        """Returns the inputs that all steps share: each layer's keys and values of the memory, and its mask."""
        return [cross.keys_values(encoded.memory) for cross in self.crosses], encoded.mask

    def start(self, encoded, prepared):
        """Returns the initial state: empty caches, which grow with each step."""
        empty = ops.zeros((ops.shape(encoded.memory)[0], 0, self.units), self.compute_dtype)
        return [(empty, empty) for _ in self.selves]

    def step(self, tokens, time, state, prepared):
        """Reads one token per row.

        Args:
            tokens: int tensor `[B]`.
            time: int tensor `[]`, the number of tokens read before.
            state, prepared: from `start` and `prepare`.

        Returns:
            `(logits [B, vocabulary], state, alignment [B, S])`; the alignment is the mean over heads and layers.
        """
        memories, mask = prepared
        x = self.embedded(tokens[:, None], start=time)[:, 0]
        after, alignments = [], []
        layers = zip(self.selves, self.crosses, self.feeds, memories, state, strict=True)
        for own, cross, feed, (keys, values), cache in layers:
            new = own.keys_values(own.normalized(x))
            pairs = zip(cache, new, strict=True)
            cache = tuple(ops.concatenate([old, vector[:, None]], axis=1) for old, vector in pairs)
            x, _ = own.step(x, *cache)
            x, weights = cross.step(x, keys, values, mask)
            x = feed(x)
            after.append(cache)
            alignments.append(weights)
        return self.project(self.norm(x)), after, sum(alignments) / len(alignments)

    def compute_output_spec(self, target, memory, memory_mask, summary=None, training=None):
        return keras.KerasTensor((*target.shape, self.vocabulary), dtype=self.project.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "scheduled_sampling": self.scheduled_sampling, "seed": self.seed}
