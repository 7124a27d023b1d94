import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ngram.cuckoo_table import CuckooTable


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [0],
        range(1000),
        range(0, 2**40, 2**30),
        range(0, 10**7, 10_000),
        np.random.default_rng(0).choice(10**6, 30_000, replace=False) * 7_919_000,
        [row * 10_000 + column for row in range(300) for column in range(row)],
    ],
    ids=["none", "zero", "dense", "powers of two", "multiples", "random", "rows"],
)
def test_it_finds_only_its_keys(keys):
    keys = np.array(keys, np.int64)
    values = np.random.default_rng(1).integers(0, 2**31 - 1, len(keys))
    table = CuckooTable(keys, values)
    np.testing.assert_array_equal(table.look_up(keys), values)
    others = np.setdiff1d(np.concatenate([keys + 1, keys - 1, np.arange(-5, 5)]), keys)
    np.testing.assert_array_equal(table.look_up(others), -1)
    assert len(table._keys) <= max(8 * len(keys), 4)


def test_any_shape_in_graph_and_under_xla():
    table = CuckooTable(np.arange(100) * 3, np.arange(100))
    keys = np.arange(24).reshape(2, 3, 4)
    expected = np.where(keys % 3 == 0, keys // 3, -1)
    np.testing.assert_array_equal(table.look_up(keys), expected)
    for jit in (False, True):
        look_up = tf.function(table.look_up, jit_compile=jit)
        np.testing.assert_array_equal(look_up(tf.constant(keys, tf.int64)), expected)
