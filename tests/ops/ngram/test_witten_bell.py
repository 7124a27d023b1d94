import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.ops import ngram


def test_counts_by_hand():
    first, second, third = ngram.count(b"abac", order=3)
    assert first.grams.tolist() == [ord("a"), ord("b"), ord("c")]
    assert first.counts.tolist() == [2, 1, 1]
    assert (first.totals.tolist(), first.kinds.tolist()) == ([4], [3])
    # Contexts: byte 0 before the text, a (then b, c) and b (then a).
    assert second.contexts.tolist() == [0, ord("a"), ord("b")]
    assert (second.totals.tolist(), second.kinds.tolist()) == ([1, 2, 1], [1, 2, 1])
    assert ord("a") << 16 | ord("b") << 8 | ord("a") in third.grams.tolist()


def test_probabilities_by_hand():
    first, second = ngram.witten_bell(ngram.count(b"aab", order=2), b"ab")
    # Order 1: c(a) = 2, c(b) = 1 of 3, two kinds; order 0 is 1/256.
    a, b = (2 + 2 / 256) / 5, (1 + 2 / 256) / 5
    np.testing.assert_allclose(first, [a, b])
    # Order 2: after byte 0 only a occurs, once; after a: a and b, once each.
    np.testing.assert_allclose(second, [(1 + a) / 2, (1 + 2 * b) / 4])


def test_unseen_contexts_fall_back_to_shorter_ones():
    first, second = ngram.witten_bell(ngram.count(b"ab", order=2), b"zb")
    assert second[1] == first[1]


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=8), st.integers(1, 8))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_probabilities_of_all_next_bytes_add_up_to_one(training, context, order):
    tables = ngram.count(training, order)
    total = sum(ngram.witten_bell(tables, context + bytes([byte]))[:, -1] for byte in range(256))
    np.testing.assert_allclose(total, np.ones(order), rtol=1e-9)


def test_a_higher_order_predicts_repetitions_better():
    rows = ngram.witten_bell(ngram.count(b"the cat sat on the mat. " * 20, order=8), b"the cat sat on the mat. ")
    bits = -np.log2(rows).mean(axis=1)
    assert (np.diff(bits[:4]) < 0).all() and bits[3] < 0.3


@pytest.mark.parametrize("text, order", [(b"", 2), (b"ab", 0), (b"ab", 9)])
def test_invalid_arguments_raise(text, order):
    with pytest.raises(ValueError, match="order from 1 to 8"):
        ngram.count(text, order)
