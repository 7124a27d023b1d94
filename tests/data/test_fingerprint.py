"""The digest of data: equal for equal content, in every process."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data import fingerprint

CODE = """
import numpy as np, tensorflow as tf
from keras_dl.data import fingerprint
rows = {"text": np.array(["one", "zwei", ""]), "number": np.arange(3.0)}
found = fingerprint(tf.data.Dataset.from_tensor_slices(rows).batch(2))
print(found)
"""


def rows(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(2)


def test_is_the_same_in_another_process():
    local = {}
    exec(CODE, local)
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    answer = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert answer.stdout.split() == [local["found"]], answer.stderr
    assert len(local["found"]) == 16
    int(local["found"], 16)


def test_is_the_same_on_a_second_reading():
    data = rows(np.arange(5), np.ones([5, 2], "float32"))
    assert fingerprint(data) == fingerprint(data) == fingerprint(rows(np.arange(5), np.ones([5, 2], "float32")))


BASE = np.arange(6)


@pytest.mark.parametrize(
    "other",
    [
        tf.data.Dataset.from_tensor_slices(BASE).batch(3),
        tf.data.Dataset.from_tensor_slices(BASE[::-1].copy()).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.astype("int32")).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.astype("float64")).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE[:5]).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.reshape(6, 1)).batch(2),
        tf.data.Dataset.from_tensor_slices(np.where(BASE == 5, 6, BASE)).batch(2),
    ],
)
def test_changes_with_batches_order_type_count_shape_and_value(other):
    assert fingerprint(other) != fingerprint(tf.data.Dataset.from_tensor_slices(BASE).batch(2))


def test_changes_with_a_text():
    texts = [["ab", "c"], ["a", "bc"], ["ab", "d"], ["ab", ""]]
    assert len({fingerprint(rows(np.array(text))) for text in texts}) == 4
