import keras
import pytest

from keras_dl.ops.precision import loss_dtype


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
def test_the_loss_dtype_is_at_least_float32(dtype, expected):
    assert loss_dtype(dtype) == expected
