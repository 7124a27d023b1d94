"""Test cases shared by both attention kernels."""

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from keras_dl.ops.attention import additive_attention, dot_product_attention

from . import textbook

FUNCTIONS = {"additive": additive_attention, "dot_product": dot_product_attention}
SEED = np.array([3, 4])


def shapes(kind, batch, queries, keys, features=4, values=6, heads=3):
    """Returns the shapes of query, key, value, scale and the gradient of the context."""
    if kind == "additive":
        sizes = [(queries, features), (keys, features), (keys, values)]
        return [(batch, *size) for size in sizes] + [(features,), (batch, queries, values)]
    sizes = [(queries, heads, features), (keys, heads, features), (keys, heads, values)]
    return [(batch, *size) for size in sizes] + [(), (batch, queries, heads, values)]


def case(kind, batch, queries, keys, seed=0, dtype="float64", **sizes):
    generator = np.random.default_rng(seed)
    return [tf.constant(generator.normal(size=size), dtype) for size in shapes(kind, batch, queries, keys, **sizes)]


def padding(batch, keys, seed=0):
    """Returns a mask; if there are several rows, the first is only padding."""
    mask = np.random.default_rng(seed).random((batch, keys)) < 0.6
    mask[: batch > 1] = False
    return mask


def with_gradients(kind, tensors, **options):
    """Returns the context and the gradients of query, key, value and scale of the function under test."""
    *tensors, upstream = tensors
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        context = FUNCTIONS[kind](*tensors, **options)
    return context, *tape.gradient(context, tensors, upstream)


def expected(kind, tensors, **options):
    return getattr(textbook, kind)(*(np.asarray(x, np.float64) for x in tensors), **options)


def compare(found, wanted, atol):
    for name, one, other in zip(("context", "query", "key", "value", "scale"), found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float64), other, atol=atol, rtol=0, err_msg=name)


SIZES = st.fixed_dictionaries(
    {"batch": st.integers(1, 3), "queries": st.integers(0, 6), "keys": st.integers(0, 6), "seed": st.integers(0, 99)}
)
