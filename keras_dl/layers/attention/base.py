"""Base class of the attention layers: call, masks, heads, and the single step of a decoder."""

import keras
from keras import ops

from keras_dl.layers.attention.inputs import require_shapes, split_list
from keras_dl.layers.padding import without_padding
from keras_dl.ops.attention import causal_mask, masked_softmax
from keras_dl.ops.checks import require_count, require_rate
from keras_dl.ops.precision import wide


class Attention(keras.layers.Layer):
    """Base class of attention layers: each query receives the mean of the values, weighted by score.

    Subclasses define the projections in `project_query` and `project_key`, the score in `score`, and in `attend` the
    same result computed without materializing all weights.

    With several heads, the features of projected queries, projected keys and values are split evenly. Each head attends
    independently, and the contexts are concatenated, without another projection.

    As for `keras.layers.Attention`, the inputs may also be a list, `[query, value]` or `[query, value, key]`, and
    `mask` a list of their masks.

    Padding never changes a result or a gradient, even if it contains NaN. A query that is masked, or that has no step
    to attend to, receives zeros.

    Args:
        num_heads: int, number of heads. Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        query: float tensor `[B, T, Dq]`.
        value: float tensor `[B, S, Dv]`.
        key: float tensor `[B, S, Dk]`. Defaults to `value`.
        query_mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `query`.
        value_mask: bool tensor `[B, S]`, False at padding. Defaults to the Keras mask of `value`.
        use_causal_mask: bool, whether query t attends only to keys `s <= t + S - T`; the last query then attends to all
            keys. Defaults to False.
        return_attention_scores: bool, whether to also return the attention weights. Memory then grows with T times S
            instead of T + S. Defaults to False.
        training: bool, whether to apply dropout.
        key_mask: bool tensor `[B, S]`, False at padding. Defaults to the Keras mask of `key`. A step is padding if
            it is False in either mask.

    Output shape:
        `[B, T, Dv]`; with `return_attention_scores=True`, also the weights before dropout: `[B, T, S]`, or
        `[B, H, T, S]` with more than one head.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty.

    Example:

    >>> import keras
    >>> from keras_dl.layers import DotAttention
    >>> issubclass(DotAttention, Attention)
    True
    """

    def __init__(self, num_heads=1, dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = require_count("num_heads", num_heads)
        self.dropout = require_rate("dropout", dropout)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def project_query(self, query):
        """Projects queries `[B, T, Dq]` or `[B, Dq]` for `score`. Returns the query itself by default."""
        return ops.cast(query, self.compute_dtype)

    def project_key(self, key):
        """Projects the keys, once per memory. Returns the keys themselves by default.

        Args:
            key: float tensor `[B, S, Dk]`, finite at padding too.

        Returns:
            float tensor `[B, S, features]`, the `keys` argument of `step`.
        """
        return ops.cast(key, self.compute_dtype)

    def score(self, query, keys):
        """Computes the scores `[B, H, T, S]` of projected queries `[B, T, features]` and keys `[B, S, features]`."""
        raise NotImplementedError

    def attend(self, query, keys, value, **options):
        """Computes the weighted means `[B, T, Dv]`; `options` are those of `keras_dl.ops.attention`."""
        raise NotImplementedError

    def initial_alignment(self, value):
        """Returns the alignment before the first query: zeros.

        Args:
            value: float tensor `[B, S, Dv]`.

        Returns:
            float tensor `[B, S]`.
        """
        return ops.zeros_like(ops.cast(value[..., 0], self.compute_dtype))

    def step(self, query, keys, value, value_mask=None, previous=None, training=False):
        """Attends with one query per row, for the steps of a decoder.

        Args:
            query: float tensor `[B, Dq]`.
            keys: float tensor `[B, S, features]`, the result of `project_key`.
            value: float tensor `[B, S, Dv]`, finite at padding too.
            value_mask: bool tensor `[B, S]`, False at padding, or None.
            previous: float tensor `[B, S]`, the weights of the previous step, used by monotonic attention; or None for
                `initial_alignment`.
            training: bool, whether to apply dropout.

        Returns:
            `(context [B, Dv], weights [B, S])`; the weights are those before dropout, averaged over the heads.
        """
        value = ops.cast(value, self.compute_dtype)
        mask = None if value_mask is None else ops.cast(value_mask, "bool")[:, None, None]
        previous = self.initial_alignment(value) if previous is None else previous
        weights = self.align(self.project_query(query)[:, None], keys, mask, previous, training)
        context = self._weighted_mean(weights, value, training)
        return context[:, 0], weights[:, 0, 0] if self.num_heads == 1 else ops.mean(weights[:, :, 0], axis=1)

    def align(self, query, keys, mask, previous, training, query_mask=None):
        """Computes the weights `[B, H, T, S]` of projected queries and keys; `mask` broadcasts to them.

        `query_mask` is used only by layers whose queries depend on the previous query.
        """
        exact = wide(self.compute_dtype)
        weights = masked_softmax(self.score(ops.cast(query, exact), ops.cast(keys, exact)), mask)
        return ops.cast(weights, self.compute_dtype)

    def __call__(self, query=None, value=None, *args, **kwargs):
        query = kwargs.pop("inputs", query)  # the name of the list in Keras
        if isinstance(query, list | tuple):
            mask = kwargs.pop("mask", value)
            query, masks = split_list(query, mask)
            return super().__call__(*query, *args, **masks, **kwargs)
        if value is None or "mask" in kwargs:
            raise ValueError(
                f"Expected {self.name}(query, value), with `query_mask` and `value_mask`, or {self.name}([query, "
                f"value]), with a list `mask`. Received: {'no' if query is None else 'a single'} query and "
                f"{'no value' if value is None else '`mask`'}"
            )
        return super().__call__(query, value, *args, **kwargs)

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
        query, value, key = (x if x is None else ops.cast(x, self.compute_dtype) for x in (query, value, key))
        query, value = without_padding(query, query_mask), without_padding(value, value_mask)
        key = value if key is None else without_padding(key, value_mask)
        projected, keys = self.project_query(query), self.project_key(key)
        arguments = projected, keys, value, query_mask, value_mask, use_causal_mask, training
        if not return_attention_scores:
            return without_padding(self._context(*arguments), query_mask)
        weights = self._weights(*arguments)
        context = without_padding(self._weighted_mean(weights, value, training), query_mask)
        if query_mask is not None:
            weights = ops.where(query_mask[:, None, :, None], weights, ops.zeros_like(weights))
        return context, weights[:, 0] if self.num_heads == 1 else weights

    def _context(self, query, keys, value, query_mask, value_mask, causal, training):
        options = {"mask": value_mask, "causal": causal}
        if training and self.dropout:
            options |= {"dropout": self.dropout, "seed": self.seed_generator.next()}
        return self.attend(query, keys, value, **options)

    def _weights(self, query, keys, value, query_mask, value_mask, causal, training):
        mask = None if value_mask is None else value_mask[:, None, None]
        if causal:
            earlier = causal_mask(ops.shape(query)[1], ops.shape(value)[1])
            mask = earlier if mask is None else ops.logical_and(mask, earlier)
        return self.align(query, keys, mask, self.initial_alignment(value), training, query_mask)

    def _weighted_mean(self, weights, value, training):
        if training and self.dropout:
            weights = keras.random.dropout(weights, self.dropout, seed=self.seed_generator)
        context = ops.matmul(weights, self.split_heads(value))
        if self.num_heads == 1:
            return context[:, 0]
        context = ops.transpose(context, (0, 2, 1, 3))
        return ops.reshape(context, (*ops.shape(context)[:2], value.shape[-1]))

    def split_heads(self, x):
        """Reshapes `[B, T, features]` to `[B, H, T, features / H]`."""
        if self.num_heads == 1:
            return ops.expand_dims(x, 1)
        return ops.transpose(self.divided(x), (0, 2, 1, 3))

    def divided(self, x):
        """Reshapes `[..., features]` to `[..., H, features / H]`, the layout of `keras_dl.ops.attention`."""
        return ops.reshape(x, (*ops.shape(x)[:-1], self.num_heads, x.shape[-1] // self.num_heads))

    def _require_heads(self, name, features):
        if features % self.num_heads:
            expected = f"Expected the number of features of the {name} to be a multiple of num_heads={self.num_heads}"
            raise ValueError(f"{expected}. Received: {features}")

    def compute_mask(self, inputs, mask=None):
        return mask[0] if isinstance(mask, list | tuple) else mask

    def compute_output_shape(self, query_shape, value_shape=None, key_shape=None, return_attention_scores=False):
        if value_shape is None:  # of a list
            query_shape, value_shape = query_shape[:2]
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
    """Converts masks to tensors and checks all shapes."""
    masks = [x if x is None or hasattr(x, "shape") else ops.convert_to_tensor(x, "bool") for x in masks]
    require_shapes(*(None if x is None else x.shape for x in (query, value, key, *masks)))
    return masks
