"""Reference implementation of attention and its gradients in float64."""

import numpy as np


def seen(mask, causal, queries, keys):
    """Returns the combined mask, bool `[B or 1, T, S]`."""
    allowed = (
        np.ones((1, queries, keys), bool) if mask is None else np.repeat(np.asarray(mask, bool)[:, None], queries, 1)
    )
    if causal:
        allowed = allowed & (np.arange(keys) <= np.arange(queries)[:, None] + keys - queries)
    return allowed


def softmax(scores, allowed):
    """Computes the softmax row by row over the allowed entries."""
    weights = np.zeros(np.broadcast_shapes(scores.shape, allowed.shape))
    allowed = np.broadcast_to(allowed, weights.shape)
    for row in np.ndindex(weights.shape[:-1]):
        some = scores[row][allowed[row]]
        if some.size:
            some = np.exp(some - some.max())
            weights[row][allowed[row]] = some / some.sum()
    return weights


def slope_of_scores(weights, value, upstream):
    """Returns the gradients of the scores, `[B, T, S]`, and of the values."""
    of_weights = upstream @ value.swapaxes(-1, -2)
    of_scores = weights * (of_weights - np.sum(weights * of_weights, axis=-1, keepdims=True))
    return of_scores, weights.swapaxes(-1, -2) @ upstream


def additive(query, key, value, scale, upstream, mask=None, causal=False):
    """Returns the context and the gradients of query, key, value and scale."""
    query, key, value, scale, upstream = (np.asarray(x, np.float64) for x in (query, key, value, scale, upstream))
    key, value = cleaned(key, value, mask)
    activation = np.tanh(query[:, :, None] + key[:, None])
    weights = softmax(activation @ scale, seen(mask, causal, query.shape[1], key.shape[1]))
    of_scores, of_value = slope_of_scores(weights, value, upstream)
    inner = of_scores[..., None] * (1 - activation**2) * scale
    return weights @ value, inner.sum(2), inner.sum(1), of_value, np.einsum("bts,btsu->u", of_scores, activation)


def dot_product(query, key, value, scale, upstream, mask=None, causal=False):
    """Returns the context and the gradients of query, key, value and scale."""
    query, key, value, upstream = (np.asarray(x, np.float64) for x in (query, key, value, upstream))
    key, value = cleaned(key, value, mask)
    query, key, value, upstream = (x.transpose(0, 2, 1, 3) for x in (query, key, value, upstream))
    products = query @ key.swapaxes(-1, -2)
    weights = softmax(products * float(scale), seen(mask, causal, query.shape[2], key.shape[2])[:, None])
    of_scores, of_value = slope_of_scores(weights, value, upstream)
    of_query, of_key = of_scores @ key * float(scale), of_scores.swapaxes(-1, -2) @ query * float(scale)
    results = (x.transpose(0, 2, 1, 3) for x in (weights @ value, of_query, of_key, of_value))
    return *results, np.sum(of_scores * products)


def cleaned(key, value, mask):
    if mask is None:
        return key, value
    key, value = np.array(key), np.array(value)
    key[~np.asarray(mask, bool)] = 0
    value[~np.asarray(mask, bool)] = 0
    return key, value
