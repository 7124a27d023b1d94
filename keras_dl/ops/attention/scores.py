"""Attention scores of queries and keys, over sequences.

Shapes: B batch, T queries, S keys, D features, U units. All functions return `[B, T, S]` and accept more leading axes
instead of B. A score depends only on its own query and key, but the gradient of a shared parameter sums over all of
them; the caller must therefore replace NaN in padding, even if `masked_softmax` ignores its scores.
"""

from keras import ops

from keras_dl.ops.precision import wide


def additive_score(query, key, scale):
    """Returns `scale . tanh(query + key)` for projected queries and keys. Stores `[B, T, S, U]`.

    Args:
        query: float tensor `[B, T, U]`.
        key: float tensor `[B, S, U]`.
        scale: float tensor `[U]`.

    Returns:
        float tensor `[B, T, S]`.

    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate", appendix
    A.1.2, https://arxiv.org/abs/1409.0473

    Example:

    >>> import numpy as np
    >>> score = additive_score(np.zeros((1, 1, 2)), np.full((1, 1, 2), np.arctanh(0.5)), np.array([1.0, 3.0]))
    >>> round(float(score[0, 0, 0]), 4)
    2.0
    """
    _require_same(query, key)
    if len(scale.shape) != 1 or scale.shape[0] != query.shape[-1]:
        raise ValueError(f"`scale` must be of shape [{query.shape[-1]}]. Received: {_shape(scale)}")
    both = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
    # Not a matrix product, whose gradient in a loop over time does not compile under XLA with unknown batch size.
    return ops.sum(ops.tanh(both) * scale, axis=-1)


def dot_score(query, key):
    """Returns `query . key`.

    Args:
        query: float tensor `[B, T, D]`.
        key: float tensor `[B, S, D]`.

    Returns:
        float tensor `[B, T, S]`.

    Source: Luong et al. 2015, "Effective approaches to attention-based neural machine translation", equation 8,
    https://arxiv.org/abs/1508.04025

    Example:

    >>> import numpy as np
    >>> float(dot_score(np.array([[[1.0, 2.0]]]), np.array([[[3.0, 4.0]]]))[0, 0, 0])
    11.0
    """
    _require_same(query, key)
    return ops.matmul(query, ops.swapaxes(key, -1, -2))


def scaled_dot_score(query, key):
    """Returns `query . key / sqrt(D)`.

    Args:
        query: float tensor `[B, T, D]`.
        key: float tensor `[B, S, D]`.

    Returns:
        float tensor `[B, T, S]`.

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1, https://arxiv.org/abs/1706.03762

    Example:

    >>> import numpy as np
    >>> float(scaled_dot_score(np.ones((1, 1, 4)), np.ones((1, 1, 4)))[0, 0, 0])
    2.0
    """
    return dot_score(ops.convert_to_tensor(query) * query.shape[-1] ** -0.5, key)


def general_score(query, key, kernel):
    """Returns `query W key`.

    Args:
        query: float tensor `[B, T, Dq]`.
        key: float tensor `[B, S, Dk]`.
        kernel: float tensor `[Dq, Dk]`, W.

    Returns:
        float tensor `[B, T, S]`.

    Source: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025

    Example:

    >>> import numpy as np
    >>> float(general_score(np.ones((1, 1, 1)), np.ones((1, 1, 2)), np.array([[2.0, 3.0]]))[0, 0, 0])
    5.0
    """
    if tuple(kernel.shape) != (query.shape[-1], key.shape[-1]):
        expected = f"[{query.shape[-1]}, {key.shape[-1]}], the features of query and key"
        raise ValueError(f"`kernel` must be of shape {expected}. Received: {_shape(kernel)}")
    return dot_score(ops.matmul(query, kernel), key)


def cosine_score(query, key, sharpness):
    """Returns `sharpness cos(query, key)`, and 0 for zero vectors.

    Args:
        query: float tensor `[B, T, D]`.
        key: float tensor `[B, S, D]`.
        sharpness: float, or a float tensor that broadcasts to `[B, T, S]`.

    Returns:
        float tensor `[B, T, S]`.

    Source: Graves et al. 2014, "Neural Turing machines", equations 5 and 6, https://arxiv.org/abs/1410.5401

    Example:

    >>> import numpy as np
    >>> round(float(cosine_score(np.array([[[1.0, 0.0]]]), np.array([[[3.0, 4.0]]]), 10.0)[0, 0, 0]), 4)
    6.0
    """
    return dot_score(_of_length_one(query), _of_length_one(key)) * sharpness


def location_score(query, kernel, length):
    """Returns `query W`: the scores depend only on the query and the position, not on the keys.

    Args:
        query: float tensor `[B, T, Dq]`.
        kernel: float tensor `[Dq, Smax]`, W, with a column for each possible position.
        length: int, or int tensor, the number S of positions.

    Returns:
        float tensor `[B, T, S]`.

    Raises:
        ValueError: if S is an int and exceeds Smax.

    Source: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025

    Example:

    >>> import numpy as np
    >>> location_score(np.ones((1, 1, 1)), np.array([[1.0, 2.0, 3.0]]), 2)[0, 0].numpy().tolist()
    [1.0, 2.0]
    """
    if isinstance(length, int) and length > kernel.shape[-1]:
        raise ValueError(f"`kernel` must have a column for each of the {length} positions. Received: {_shape(kernel)}")
    return ops.matmul(query, kernel[:, :length])


def _of_length_one(x):
    x = ops.convert_to_tensor(x)
    exact = ops.cast(x, wide(x.dtype))  # squares underflow in float16
    return ops.cast(exact * ops.rsqrt(ops.maximum(ops.sum(exact * exact, axis=-1, keepdims=True), 1e-30)), x.dtype)


def _require_same(query, key):
    if query.shape[-1] != key.shape[-1]:
        received = f"{_shape(query)} and {_shape(key)}"
        raise ValueError(f"`query` and `key` must have the same number of features. Received: {received}")


def _shape(tensor):
    return list(tensor.shape)
