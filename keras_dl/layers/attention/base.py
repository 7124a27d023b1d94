"""What the layers of attention have in common: the call, masks, heads, and the single step of a decoder."""

import keras
from keras import ops

from keras_dl.layers.attention.inputs import require_count, require_dropout, require_shapes, without_padding
from keras_dl.ops.attention import causal_mask, masked_softmax
from keras_dl.ops.attention.precision import wide


class Attention(keras.layers.Layer):
    """Base of the layers of attention: each query gets the mean of the values, weighted by how well their keys fit.

    A layer of its own says with `project_query` and `project_key` what is compared, with `score` how, and with `attend`
    how the same is computed without holding all weights.

    With several heads the features of projected queries, projected keys and values are split evenly; each head attends
    for itself, and their contexts stand side by side. Nothing more is projected for them.

    Padding never changes a result or a gradient, whatever it holds. A query that is masked, or that has nothing to
    attend to, gets zeros.

    Args:
        num_heads: int > 0. Defaults to 1.
        dropout: float from 0 to below 1, the share of the weights that is dropped in training. Defaults to 0.
        seed: int, of the dropout. Defaults to None, another one each time.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        query: float tensor `[B, T, Dq]`.
        value: float tensor `[B, S, Dv]`.
        key: float tensor `[B, S, Dk]`. Defaults to the values.
        query_mask: bool tensor `[B, T]`, False at padding; Keras' mask of `query` by default.
        value_mask: bool tensor `[B, S]`, False at padding; Keras' mask of `value` by default.
        use_causal_mask: bool, whether query t sees the keys `s <= t + S - T` only: the last query sees all. Defaults to
            False.
        return_attention_scores: bool, whether the weights are wanted too; without them memory grows with T + S and not
            with T times S. Defaults to False.
        training: bool, whether to drop anything.
        key_mask: bool tensor `[B, S]`, False at padding; Keras' mask of `key` by default. Padding is where it is in
            either mask.

    Output shape:
        `[B, T, Dv]`; with `return_attention_scores=True` also the weights, before dropout: `[B, T, S]`, or
        `[B, H, T, S]` with more than one head.

    Raises:
        ValueError: for shapes that do not fit, heads that do not divide the features, a memory without any step.

    Example:

    >>> import keras
    >>> from keras_dl.layers import DotAttention
    >>> issubclass(DotAttention, Attention)
    True
    """

    def __init__(self, num_heads=1, dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        require_count("num_heads", num_heads)
        require_dropout(dropout)
        self.num_heads = int(num_heads)
        self.dropout = float(dropout)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def project_query(self, query):
        """`[B, T, Dq]` or `[B, Dq]` -> what `score` compares with keys. Here the query itself."""
        return ops.cast(query, self.compute_dtype)

    def project_key(self, key):
        """What is computed of the keys once a memory.

        Args:
            key: float tensor `[B, S, Dk]`, finite at padding too.

        Returns:
            float tensor `[B, S, features]`, the `keys` of `step`.
        """
        return ops.cast(key, self.compute_dtype)

    def score(self, query, keys):
        """Of projected queries `[B, T, features]` and keys `[B, S, features]`: `[B, H, T, S]`."""
        raise NotImplementedError

    def attend(self, query, keys, value, **options):
        """As `score`, softmax and the weighted mean, `[B, T, Dv]`; options are those of the kernels of ops."""
        raise NotImplementedError

    def initial_alignment(self, value):
        """The alignment before the first query: nothing has been attended to.

        Args:
            value: float tensor `[B, S, Dv]`.

        Returns:
            float tensor `[B, S]`.
        """
        return ops.zeros_like(ops.cast(value[..., 0], self.compute_dtype))

    def step(self, query, keys, value, value_mask=None, previous=None, training=False):
        """Attention of one query a row, as a decoder needs it step by step.

        Args:
            query: float tensor `[B, Dq]`.
            keys: float tensor `[B, S, features]`, what `project_key` gave.
            value: float tensor `[B, S, Dv]`, finite at padding too.
            value_mask: bool tensor `[B, S]`, False at padding, or None.
            previous: float tensor `[B, S]`, the weights of the step before, which monotonic attention goes on from;
                or None, `initial_alignment`.
            training: bool, whether to drop anything.

        Returns:
            `(context [B, Dv], weights [B, S])`, the weights before dropout and as the mean of the heads.
        """
        value = ops.cast(value, self.compute_dtype)
        seen = None if value_mask is None else ops.cast(value_mask, "bool")[:, None, None]
        previous = self.initial_alignment(value) if previous is None else previous
        weights = self.align(self.project_query(query)[:, None], keys, seen, previous, training)
        context = self._weighted(weights, value, training)
        return context[:, 0], weights[:, 0, 0] if self.num_heads == 1 else ops.mean(weights[:, :, 0], axis=1)

    def align(self, query, keys, mask, previous, training, query_mask=None):
        """The weights `[B, H, T, S]` of projected queries and keys; `mask` broadcasts to them.

        What `query_mask` leaves out matters only where each query goes on from the one before it.
        """
        exact = wide(self.compute_dtype)
        weights = masked_softmax(self.score(ops.cast(query, exact), ops.cast(keys, exact)), mask)
        return ops.cast(weights, self.compute_dtype)

    def build(self, query_shape, value_shape, key_shape=None):
        require_shapes(query_shape, value_shape, key_shape)
        self._require_heads("value", value_shape[-1])

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        use_causal_mask=False,
        return_attention_scores=False,
        training=None,
        key_mask=None,
    ):
        query_mask, value_mask, key_mask = _masks(query, value, key, query_mask, value_mask, key_mask)
        query_mask, value_mask, key_mask = (
            None if x is None else ops.cast(x, "bool") for x in (query_mask, value_mask, key_mask)
        )
        if key_mask is not None:
            value_mask = key_mask if value_mask is None else ops.logical_and(value_mask, key_mask)
        query, value = without_padding(query, query_mask), without_padding(value, value_mask)
        key = value if key is None else without_padding(key, value_mask)
        projected, keys = self.project_query(query), self.project_key(key)
        given = projected, keys, value, query_mask, value_mask, use_causal_mask, training
        if not return_attention_scores:
            return without_padding(self._context(*given), query_mask)
        weights = self._weights(*given)
        context = without_padding(self._weighted(weights, value, training), query_mask)
        if query_mask is not None:
            weights = ops.where(query_mask[:, None, :, None], weights, ops.zeros_like(weights))
        return context, weights[:, 0] if self.num_heads == 1 else weights

    def _context(self, query, keys, value, query_mask, value_mask, causal, training):
        options = {"mask": value_mask, "causal": causal}
        if training and self.dropout:
            options |= {"dropout": self.dropout, "seed": self.seed_generator.next()}
        return self.attend(query, keys, value, **options)

    def _weights(self, query, keys, value, query_mask, value_mask, causal, training):
        seen = None if value_mask is None else value_mask[:, None, None]
        if causal:
            earlier = causal_mask(ops.shape(query)[1], ops.shape(value)[1])
            seen = earlier if seen is None else ops.logical_and(seen, earlier)
        return self.align(query, keys, seen, self.initial_alignment(value), training, query_mask)

    def _weighted(self, weights, value, training):
        if training and self.dropout:
            weights = keras.random.dropout(weights, self.dropout, seed=self.seed_generator)
        context = ops.matmul(weights, self.split_heads(value))
        if self.num_heads == 1:
            return context[:, 0]
        context = ops.transpose(context, (0, 2, 1, 3))
        return ops.reshape(context, (*ops.shape(context)[:2], value.shape[-1]))

    def split_heads(self, x):
        """`[B, T, features]` -> `[B, H, T, features / H]`."""
        if self.num_heads == 1:
            return ops.expand_dims(x, 1)
        return ops.transpose(self.divided(x), (0, 2, 1, 3))

    def divided(self, x):
        """`[..., features]` -> `[..., H, features / H]`, as the kernels of ops want it."""
        return ops.reshape(x, (*ops.shape(x)[:-1], self.num_heads, x.shape[-1] // self.num_heads))

    def _require_heads(self, name, features):
        if features % self.num_heads:
            expected = f"Expected the features of the {name} to be a multiple of num_heads={self.num_heads}"
            raise ValueError(f"{expected}. Received: {features}")

    def compute_mask(self, query, previous_mask=None):
        return previous_mask

    def compute_output_shape(self, query_shape, value_shape, key_shape=None, return_attention_scores=False):
        context = (*query_shape[:-1], value_shape[-1])
        if not return_attention_scores:
            return context
        heads = () if self.num_heads == 1 else (self.num_heads,)
        return context, (query_shape[0], *heads, query_shape[1], value_shape[1])

    def compute_output_spec(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        use_causal_mask=False,
        return_attention_scores=False,
        training=None,
        key_mask=None,
    ):
        _masks(query, value, key, query_mask, value_mask, key_mask)
        shape = self.compute_output_shape(query.shape, value.shape, None, return_attention_scores)
        if not return_attention_scores:
            return keras.KerasTensor(shape, self.compute_dtype)
        return tuple(keras.KerasTensor(each, self.compute_dtype) for each in shape)

    def get_config(self):
        own = {"num_heads": self.num_heads, "dropout": self.dropout, "seed": self.seed}
        return {**super().get_config(), **own}


def _masks(query, value, key, *masks):
    """The masks as tensors, also those that are lists; refused with what they do not fit."""
    masks = [x if x is None or hasattr(x, "shape") else ops.convert_to_tensor(x, "bool") for x in masks]
    require_shapes(*(None if x is None else x.shape for x in (query, value, key, *masks)))
    return masks
