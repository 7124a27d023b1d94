import keras
import pytest

from keras_dl.losses.wide_dtype import wide_dtype


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("mixed_bfloat16", "float32"),
        (keras.DTypePolicy("mixed_float16"), "float32"),
        (keras.DTypePolicy("float64"), "float64"),
        (None, "float32"),
    ],
)
def test_is_float32_at_least(dtype, expected):
    assert wide_dtype(dtype) == expected
