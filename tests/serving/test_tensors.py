"""Conversion between `TensorProto` and arrays, compared with TensorFlow's functions."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2, types_pb2

from keras_dl.serving.tensors import to_array, to_proto

NUMBERS = "float32 float64 float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64 complex128".split()


def equal(left, right):
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    return left.tobytes() == right.tobytes()  # including NaN and -0.0


def proto(dtype, shape, **values):
    message = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(f"DT_{dtype.upper()}"), **values)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    )
)
def test_numbers_survive_a_round_trip(array):
    written = to_proto(array)
    assert written.tensor_content == b""
    assert equal(to_array(written), array)
    assert equal(tf.make_ndarray(written), array)
    assert equal(to_array(tf.make_tensor_proto(array)), array)
    assert equal(to_array(tf.make_tensor_proto(array), largest=0 if array.size else 2048), array)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(object, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), elements=st.binary()))
def test_strings_survive_a_round_trip(array):
    for message in (to_proto(array), tf.make_tensor_proto(array, tf.string, array.shape)):
        read = to_array(message)
        assert read.dtype == object and read.shape == array.shape and read.ravel().tolist() == array.ravel().tolist()


def test_bfloat16():
    array = np.array([1.5, np.nan, -np.inf, 3e38]).astype(tf.bfloat16.as_numpy_dtype)
    assert equal(to_array(to_proto(array)), array)
    assert equal(to_array(tf.make_tensor_proto(array[:1])), array[:1])


def test_the_last_value_fills_the_shape():
    message = tf.make_tensor_proto(1.5, shape=[2, 3])
    assert len(message.float_val) == 1
    np.testing.assert_array_equal(to_array(message), np.full([2, 3], 1.5, np.float32))
    assert to_array(proto("int64", [4], int64_val=[1, 7])).tolist() == [1, 7, 7, 7]
    assert to_array(proto("string", [2], string_val=[b"a"])).tolist() == [b"a", b"a"]


@pytest.mark.parametrize(
    "message",
    [
        proto("float", [2**40], float_val=[0]),
        proto("float", [2**31, 2**31, 2**31], float_val=[0]),
        proto("string", [2**40], string_val=[b""]),
        proto("bool", [65], bool_val=[True]),
        proto("float", [2097152, 0, 13]),
        proto("bool", [65, 0]),
        proto("string", [0, 9, 0]),
    ],
)
def test_arrays_much_larger_than_their_message_are_rejected(message):
    with pytest.raises(ValueError, match="expected at most 64 bytes. Its shape takes "):
        to_array(message, largest=64)


@pytest.mark.parametrize(
    "message, problem",
    [
        (proto("float", [2**60]), f"expected {2**60} values in float_val. Received: 0"),
        (proto("float", [3], int_val=[1, 2, 3]), "expected 3 values in float_val. Received: 0"),
        (proto("float", []), "expected 1 values in float_val. Received: 0"),
        (proto("float", [2], float_val=[1, 2, 3]), "expected 2 values in float_val. Received: 3"),
        (proto("float", [0], float_val=[1]), "expected 0 values in float_val. Received: 1"),
        (proto("float", [2], tensor_content=b"\0" * 7), "expected 8 bytes in tensor_content. Received: 7"),
        (proto("float", [0, 2**62], tensor_content=b"\0"), "expected 0 bytes in tensor_content. Received: 1"),
        (proto("float", [0, 2**62]), "too big"),
        (proto("float", [2**60], tensor_content=b"\0\0\0\0"), "in tensor_content. Received: 4"),
        (proto("string", [1], tensor_content=b"\1a"), "expected strings in string_val. Received: tensor_content"),
        (proto("complex64", [1], scomplex_val=[1, 2, 3]), "expected pairs of numbers in scomplex_val. Received: 3"),
        (proto("int8", [1], int_val=[300]), "expected values in the range of int8 in int_val"),
        (proto("uint16", [1], int_val=[-1]), "expected values in the range of uint16 in int_val"),
        (proto("half", [1], half_val=[70000]), "expected values in the range of float16 in half_val"),
        (proto("float", [-1], float_val=[1]), "expected a fully known shape"),
        (proto("float", [1] * 65, float_val=[1]), "of at most 64 dimensions"),
        (proto("invalid", []), "expected a tensor of numbers, booleans or strings"),
        (proto("resource", []), "expected a tensor of numbers, booleans or strings"),
        (proto("qint8", [], int_val=[1]), "expected a tensor of numbers, booleans or strings"),
        (proto("float_ref", [], float_val=[1]), "expected a tensor of numbers, booleans or strings"),
        (tensor_pb2.TensorProto(dtype=199), "expected a tensor of numbers, booleans or strings"),
    ],
)
def test_content_that_does_not_fit_is_rejected(message, problem):
    with pytest.raises(ValueError, match=problem):
        to_array(message)


def test_the_number_of_values_is_limited(monkeypatch):
    monkeypatch.setattr("keras_dl.serving.tensors._MAX_VALUES", 2)
    assert to_array(tf.make_tensor_proto(["", ""])).tolist() == [b"", b""]
    with pytest.raises(ValueError, match="expected at most 2 values, or tensor_content. Received: 3"):
        to_array(tf.make_tensor_proto(["", "", ""]))


def test_an_unknown_rank_is_rejected():
    message = proto("float", [], float_val=[1])
    message.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="expected a fully known shape"):
        to_array(message)


def test_nonzero_bytes_are_true():
    assert to_array(proto("bool", [3], tensor_content=b"\0\1\7")).view(np.uint8).tolist() == [0, 1, 1]


def test_arrays_that_are_not_contiguous():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert equal(to_array(to_proto(array)), np.ascontiguousarray(array))
    half = array.astype(np.float16)
    np.testing.assert_array_equal(to_array(to_proto(half)), half)


def test_a_dtype_without_a_field_is_rejected():
    with pytest.raises(ValueError, match="expected numbers, booleans or strings. Received: qint8"):
        to_proto(np.array([(1,)], tf.qint8.as_numpy_dtype))
