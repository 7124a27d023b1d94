"""Attention on TensorFlow by blocks of queries, whose weights are recomputed in the backward pass.

It consists of stock operations, so the same graph runs with and without XLA, and in a server.
"""

import functools

import tensorflow as tf

from keras_dl.ops.attention.masks import MASKED_SCORE

_BYTES = 2**24  # size of the largest tensor of a block; larger ones are not faster
_CAUSAL_PARTS = 4
_PHILOX = 1  # an RNG whose stream can be read from any position, four numbers at a time


def attention_in_blocks(score, query, key, value, parameters, width, mask, causal, dropout, seed):
    """Computes the mean of the values, weighted by the softmax of any score over the keys.

    It stores the inputs, their gradients and one block, but nothing of size T times S.

    Args:
        score: function of a block of queries `[N, c, D]`, the keys and the parameters. It returns the scores
            `[N, c, S]` and a function from the gradient of the scores to those of the block, the keys and each
            parameter.
        query: float tensor `[N, T, D]`.
        key: float tensor `[N, S, D]`.
        value: float tensor `[N, S, V]`.
        parameters: list of float tensors.
        width: int, the number of elements per query and key in the largest tensor of `score`.
        mask: bool tensor `[N, S]`, or None. Keys and values at padding must be finite.
        causal: bool, whether attention is causal (see `causal_mask`).
        dropout: float in [0, 1).
        seed: int tensor `[2]`, or None without dropout.

    Returns:
        float tensor `[N, T, V]`.

    Example:

    >>> def score(query, key):
    ...     gradients = lambda slope: (slope @ key, tf.transpose(slope, (0, 2, 1)) @ query)
    ...     return query @ tf.transpose(key, (0, 2, 1)), gradients
    >>> query, key, value = tf.zeros((1, 2, 4)), tf.zeros((1, 2, 4)), tf.constant([[[2.0], [4.0]]])
    >>> attention_in_blocks(score, query, key, value, [], 1, None, True, 0.0, None)[0, :, 0].numpy().tolist()
    [2.0, 3.0]
    """

    query, key, value = (tf.convert_to_tensor(x) for x in (query, key, value))
    if not causal:
        return _attend(score, query, key, value, parameters, width, mask, causal, _Dropout(dropout, seed, 0))
    # Each part of the queries omits the keys that are masked for all of it, which saves a third of the work.
    queries, keys, contexts = _size(query, 1), _size(key, 1), []
    # Each part is a loop in the graph, which is too expensive to trace if sequences may be short.
    parts = max(1, min(_CAUSAL_PARTS, queries)) if isinstance(queries, int) else 1
    for part in range(parts):
        first, last = (queries * number // parts for number in (part, part + 1))
        seen = _greatest(0, last + keys - queries)
        block = query[:, first:last], key[:, :seen], value[:, :seen]
        seen = mask if mask is None else mask[:, :seen]
        contexts.append(_attend(score, *block, parameters, width, seen, causal, _Dropout(dropout, seed, part)))
    return tf.concat(contexts, axis=1)


def _attend(score, query, key, value, parameters, width, mask, causal, dropout):
    @tf.custom_gradient
    def attend(query, key, value, *parameters):
        blocks = _Blocks(query, key, width, mask, causal)
        kept = functools.partial(dropout.kept, blocks) if dropout.rate else lambda _, weights: weights

        def forward(index, block):
            scores, _ = score(block, key, *parameters)
            return tf.matmul(kept(index, blocks.weights(index, scores)), value), ()

        context = blocks.zero_unattended(blocks.map(forward, [query], value.shape[2], ())[0])

        def gradient(upstream):
            @tf.custom_gradient
            def first_order(query, key, value, context, upstream, *parameters):
                def backward(index, block, upstream, mean):
                    scores, gradients = score(block, key, *parameters)
                    weights = blocks.weights(index, scores)
                    slope = kept(index, tf.matmul(upstream, value, transpose_b=True))
                    of_block, *others = gradients(weights * (slope - mean))
                    return of_block, (tf.matmul(kept(index, weights), upstream, transpose_a=True), *others)

                upstream = blocks.zero_unattended(upstream)
                # the mean of the gradients of a row's weights
                mean = tf.reduce_sum(upstream * context, axis=2, keepdims=True)
                sums = [tf.zeros_like(x) for x in (value, key, *parameters)]
                of_query, sums = blocks.map(backward, [query, upstream, mean], query.shape[2], sums)
                of_value, of_key, *of_parameters = sums
                return (of_query, of_key, of_value, *of_parameters), _no_second_order

            return first_order(query, key, value, context, upstream, *parameters)

        return context, gradient

    return attend(query, key, value, *parameters)


def _no_second_order(*_):
    raise ValueError(
        "Attention that does not return its scores supports only first-order gradients on TensorFlow; for higher "
        "orders use `masked_softmax` of a score function. Received: a request for a second-order gradient"
    )


class _Blocks:
    """The division of the queries into blocks, shared by the forward and the backward pass."""

    def __init__(self, query, key, width, mask, causal):
        self.rows, self.queries = _size(query, 0), _size(query, 1)
        self.keys, self.dtype = _size(key, 1), query.dtype
        self.mask, self.causal = mask, causal
        self.size, self.count = self._cut(width)

    def _cut(self, width):
        """Returns the number of queries per block and the number of blocks, at least one, as equal as possible."""
        affordable = _BYTES // (self.dtype.size * width)
        if isinstance(self.rows, int) and isinstance(self.keys, int):
            most = affordable // max(1, self.rows * self.keys)
        else:
            pairs = tf.cast(self.rows, tf.int64) * tf.cast(self.keys, tf.int64)
            most = tf.cast(affordable // tf.maximum(pairs, 1), tf.int32)
        count = _greatest(1, -(-self.queries // _greatest(1, most)))
        return -(-self.queries // count), count

    def map(self, function, tensors, features, sums):
        """Calls `function(index, *blocks)` for all blocks of the tensors `[N, T, ...]`.

        Returns its first results as one tensor `[N, T, features]`, and the sums of its other results.
        """
        padding = [[0, 0], [0, self.count * self.size - self.queries], [0, 0]]
        shape = [self.rows, self.count, self.size]
        tensors = [tf.reshape(tf.pad(x, padding), [*shape, x.shape[2]]) for x in tensors]
        static = [size if isinstance(size, int) else None for size in (self.rows, self.size)]
        results = tf.TensorArray(self.dtype, self.count, element_shape=[*static, features])

        def body(index, results, *sums):
            result, addends = function(index, *(tf.gather(x, index, axis=1) for x in tensors))
            sums = [tf.ensure_shape(total + new, total.shape) for total, new in zip(sums, addends, strict=True)]
            return index + 1, results.write(index, result), *sums

        _, results, *sums = tf.while_loop(
            lambda index, *_: index < self.count,
            body,
            (0, results, *sums),
            maximum_iterations=self.count,
            parallel_iterations=1,
        )
        results = tf.transpose(results.stack(), [1, 0, 2, 3])
        return tf.reshape(results, [self.rows, self.count * self.size, features])[:, : self.queries], sums

    def weights(self, index, scores):
        """Returns the softmax of the scores of a block."""
        if self.mask is not None:
            scores += tf.where(self.mask, tf.zeros([], self.dtype), MASKED_SCORE)[:, None]
        if self.causal:
            last = index * self.size + tf.range(self.size) + (self.keys - self.queries)
            scores += tf.where(tf.range(self.keys) <= last[:, None], tf.zeros([], self.dtype), MASKED_SCORE)
        return tf.nn.softmax(scores)

    def zero_unattended(self, tensor):
        """Sets the rows `[N, T, ...]` of queries without any valid key to zero."""
        if self.mask is None and not self.causal:
            return tensor
        places = tf.range(self.keys)
        places = places if self.mask is None else tf.where(self.mask, places, self.keys)
        first = tf.reduce_min(places, axis=-1, keepdims=True)  # the largest int without any keys
        last = tf.range(self.queries) + (self.keys - self.queries) if self.causal else self.keys - 1
        return tf.where((first <= last)[..., None], tensor, tf.zeros([], tensor.dtype))


class _Dropout:
    """Dropout of the weights, the same for any division into blocks and in the backward pass."""

    def __init__(self, rate, seed, stream):
        self.rate, self.seed, self.stream = rate, seed, stream

    def kept(self, blocks, index, weights):
        """Returns the weights `[N, c, S]` of a block, or their gradients: 0 if dropped, else divided by `1 - rate`."""
        numbers = blocks.rows * blocks.keys
        draws = -(-numbers // 4)
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=tf.cast(self.seed, tf.int64))
        before = tf.cast(index * blocks.size, tf.int64) * tf.cast(draws, tf.int64)
        counter += tf.cast(tf.stack([before, self.stream]), tf.uint64)
        shape = [blocks.size, 4 * draws]
        uniform = tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=key, counter=counter, alg=_PHILOX)
        uniform = tf.reshape(uniform[:, :numbers], [blocks.size, blocks.rows, blocks.keys])
        keep = tf.where(uniform >= self.rate, tf.constant(1 / (1 - self.rate), weights.dtype), 0)
        return weights * tf.transpose(keep, [1, 0, 2])


def _size(tensor, axis):
    return tf.shape(tensor)[axis] if tensor.shape[axis] is None else tensor.shape[axis]


def _greatest(first, second):
    both_known = isinstance(first, int) and isinstance(second, int)
    return max(first, second) if both_known else tf.maximum(first, second)
