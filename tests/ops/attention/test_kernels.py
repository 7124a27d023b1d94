"""additive_attention and dot_product_attention, compared to the textbook in all modes, shapes and masks."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.ops.attention import blocks

from .cases import FUNCTIONS, SIZES, case, compare, expected, padding, shapes, with_gradients

KINDS = sorted(FUNCTIONS)
both = pytest.mark.parametrize("kind", KINDS)


@both
@settings(max_examples=25, deadline=None, derandomize=True)
@given(sizes=SIZES, masked=st.booleans(), causal=st.booleans(), small=st.booleans())
def test_matches_the_textbook(kind, sizes, masked, causal, small):
    tensors = case(kind, **sizes)
    options = {"mask": padding(sizes["batch"], sizes["keys"], sizes["seed"]) if masked else None, "causal": causal}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BYTES", 1 if small else 2**24)
        found = with_gradients(kind, tensors, **options)
    compare(found, expected(kind, tensors, **options), 1e-12)


@both
def test_float32_is_close_to_the_textbook(kind):
    tensors = case(kind, 2, 33, 47, dtype="float32", features=32, values=16)
    tensors[0] /= 6  # scores with deviation 1
    options = {"mask": padding(2, 47), "causal": True}
    compare(with_gradients(kind, tensors, **options), expected(kind, tensors, **options), 1e-5)


def free(kind, tensors):
    """Returns signatures with unknown batch size and lengths."""
    rank = 3 if kind == "additive" else 4
    return [tf.TensorSpec([None, None, *x.shape[2:]] if len(x.shape) == rank else x.shape, x.dtype) for x in tensors]


@pytest.mark.parametrize(("kind", "causal"), [("additive", True), ("dot_product", False)])
def test_one_graph_for_all_shapes(kind, causal, monkeypatch):
    monkeypatch.setattr(blocks, "_BYTES", 512)
    signature = [*free(kind, case(kind, 1, 1, 1)), tf.TensorSpec([None, None], tf.bool)]

    @tf.function(input_signature=signature, autograph=False)
    def traced(*tensors):
        *tensors, mask = tensors
        return with_gradients(kind, tensors, mask=mask, causal=causal)

    for batch, queries, keys in [(2, 7, 5), (1, 1, 9), (3, 4, 0), (2, 0, 3), (0, 2, 2)]:
        tensors, mask = case(kind, batch, queries, keys), padding(batch, keys)
        compare(traced(*tensors, mask), expected(kind, tensors, mask=mask, causal=causal), 1e-12)


@pytest.mark.parametrize(("kind", "known"), [("additive", False), ("dot_product", True)])
def test_xla(kind, known, monkeypatch):
    monkeypatch.setattr(blocks, "_BYTES", 512)
    tensors, mask = case(kind, 2, 7, 5), padding(2, 5)
    traced = tf.function(
        lambda *x: with_gradients(kind, x, mask=mask, causal=known),
        input_signature=None if known else free(kind, tensors),
        jit_compile=True,
        autograph=False,
    )
    compare(traced(*tensors), expected(kind, tensors, mask=mask, causal=known), 1e-12)


@both
@pytest.mark.parametrize("content", [np.nan, np.inf, 1e38])
def test_padding_values_have_no_effect(kind, content):
    query, key, value, scale, upstream = case(kind, 2, 4, 5)
    mask = padding(2, 5, seed=1)
    there = tf.reshape(mask, [2, 5, *[1] * (len(key.shape) - 2)])
    clean = with_gradients(kind, [query, key, value, scale, upstream], mask=mask, causal=True)
    key, value = (tf.where(there, x, tf.constant(content, x.dtype)) for x in (key, value))
    for one, other in zip(
        with_gradients(kind, [query, key, value, scale, upstream], mask=mask, causal=True), clean, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert not np.any(clean[0][0]) and not np.any(clean[1][0])  # the first row is only padding


@both
@pytest.mark.parametrize(("dtype", "atol"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_is_summed_in_float32(kind, dtype, atol):
    tensors = [x / 4 for x in case(kind, 2, 5, 600, dtype=dtype)]
    found = with_gradients(kind, tensors, mask=padding(2, 600), causal=True)
    assert {x.dtype.name for x in found} == {dtype}
    wanted = expected(kind, tensors, mask=padding(2, 600), causal=True)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float64), other, atol=atol * max(1e-3, abs(other).max()), rtol=0)


@both
def test_huge_scores(kind):
    query, key, value, scale, upstream = case(kind, 1, 3, 4, dtype="float32")
    tensors = [query * 1e3, key * 1e3, value, scale * 1e4, upstream]
    found = with_gradients(kind, tensors)
    assert all(np.all(np.isfinite(x)) for x in found)
    np.testing.assert_allclose(found[0], expected(kind, tensors)[0], atol=1e-5)


@both
def test_causal_queries_are_rows_of_the_whole(kind):
    """A single query over previous keys is the last row of all queries."""
    query, key, value, scale, _ = case(kind, 2, 6, 6)
    whole = FUNCTIONS[kind](query, key, value, scale, causal=True)
    for first in (1, 4, 5):
        part = FUNCTIONS[kind](query[:, first:], key, value, scale, causal=True)
        np.testing.assert_allclose(part, whole[:, first:], atol=1e-12)
    # With more queries than keys, the first queries have no keys.
    late = FUNCTIONS[kind](query, key[:, :2], value[:, :2], scale, causal=True)
    assert not np.any(late[:, :4]) and np.all(np.any(late[:, 4:], axis=-1))


@both
def test_variables_and_numpy(kind):
    query, key, value, scale, _ = (x.numpy() for x in case(kind, 2, 3, 4, dtype="float32"))
    variable = tf.Variable(scale)
    with tf.GradientTape() as tape:
        context = FUNCTIONS[kind](query, key, value, variable)
    wanted = expected(kind, [query, key, value, scale, np.ones_like(context)])
    np.testing.assert_allclose(context, wanted[0], atol=1e-6)
    np.testing.assert_allclose(tape.gradient(context, variable), wanted[4], atol=1e-5)


@both
def test_invalid_arguments_raise(kind):
    *right, _ = case(kind, 2, 3, 4)
    function = FUNCTIONS[kind]
    for place, other in [(0, case(kind, 3, 3, 4)), (1, case(kind, 2, 3, 5)), (0, case(kind, 2, 3, 4, features=5))]:
        wrong = [*right]
        wrong[place] = other[place]
        with pytest.raises(ValueError, match=r"`query` \[B, T, .*must match. Received: "):
            function(*wrong)
    with pytest.raises(ValueError, match="must match"):
        function(*right, mask=np.ones((2, 3)))
    with pytest.raises(ValueError, match="must match"):
        function(right[0][0], *right[1:])
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="`dropout` must be in \\[0, 1\\). Received: "):
            function(*right, dropout=rate, seed=[1, 2])
    with pytest.raises(ValueError, match="`dropout` requires a `seed`"):
        function(*right, dropout=0.5)
    assert shapes(kind, 2, 3, 4)[0] == tuple(right[0].shape)


def test_a_scale_of_the_wrong_size_raises():
    *right, _ = case("additive", 2, 3, 4)
    with pytest.raises(ValueError, match=r"`scale` must be of shape \[4\]. Received: \[3\]"):
        FUNCTIONS["additive"](*right[:3], right[3][:3])
