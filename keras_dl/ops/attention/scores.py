"""How well a query fits a key: the score functions, over whole sequences.

Shapes: B batch, T queries, S keys, D features, U units. All give `[B, T, S]`, and take more leading axes for B. A score
is of its own query and key alone; the gradient of a shared parameter sums over all of them, so that padding of NaN has
to be replaced by the caller even if `masked_softmax` drops its scores.
"""

from keras import ops

from keras_dl.ops.precision import wide


def additive_score(query, key, scale):
    """`scale . tanh(query + key)`, of a query and a key that are projected already. Holds `[B, T, S, U]`.

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
    # No product of matrices: its gradient does not compile under XLA in a loop over time, where the batch is not known.
    return ops.sum(ops.tanh(both) * scale, axis=-1)


def dot_score(query, key):
    """`query . key`.

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
    """`query . key / sqrt(D)`.

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
    """`query W key`.

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
    """`sharpness cos(query, key)`; with a vector of zeros 0.

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
    """`query W`: each query says by itself where it looks, whatever is there.

    Args:
        query: float tensor `[B, T, Dq]`.
        kernel: float tensor `[Dq, Smax]`, W, with a column for each place that there may be.
        length: int, or int tensor, S, how many places there are.

    Returns:
        float tensor `[B, T, S]`.

    Raises:
        ValueError: if there are more than Smax places, where S is an int.

    Source: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025

    Example:

    >>> import numpy as np
    >>> location_score(np.ones((1, 1, 1)), np.array([[1.0, 2.0, 3.0]]), 2)[0, 0].numpy().tolist()
    [1.0, 2.0]
    """
    if isinstance(length, int) and length > kernel.shape[-1]:
        raise ValueError(f"`kernel` must have a column for each of the {length} places. Received: {_shape(kernel)}")
    return ops.matmul(query, kernel[:, :length])


def _of_length_one(x):
    x = ops.convert_to_tensor(x)
    exact = ops.cast(x, wide(x.dtype))  # in float16 squares are lost
    return ops.cast(exact * ops.rsqrt(ops.maximum(ops.sum(exact * exact, axis=-1, keepdims=True), 1e-30)), x.dtype)


def _require_same(query, key):
    if query.shape[-1] != key.shape[-1]:
        received = f"{_shape(query)} and {_shape(key)}"
        raise ValueError(f"`query` and `key` must have as many features as each other. Received: {received}")


def _shape(tensor):
    return list(tensor.shape)
