"""Conversion between `TensorProto` and NumPy arrays, for the gRPC server and client.

Source: ``tensorflow/core/framework/tensor.cc`` of https://github.com/tensorflow/tensorflow. The wire format of floats
and booleans equals their layout in memory, so whole arrays are copied: copying 6400 values takes 3 us, appending them
one by one 260 us. Deliberately stricter than `tf.make_ndarray` and TensorFlow: see `to_array`.
"""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

_FIELDS = dict.fromkeys((tf.int8, tf.int16, tf.int32, tf.uint8, tf.uint16), "int_val") | {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.half: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
    tf.string: "string_val",
}
_DTYPES = {dtype.as_datatype_enum: dtype for dtype in _FIELDS}
_COMPLEX_PARTS = {tf.complex64: np.float32, tf.complex128: np.float64}
_MEMORY_LAYOUT = (tf.float32, tf.float64, tf.bool, tf.complex64, tf.complex128)
_BITS = (tf.half, tf.bfloat16)  # stored as 16 bits in an integer field
_MAX_DIMENSIONS = 64  # NumPy's limit
_MAX_VALUES = 2**24  # of a typed field: small integers and empty strings take up to 40 times their size in Python
_LENGTH_DELIMITED = 2  # protobuf wire type


def to_array(proto: tensor_pb2.TensorProto, largest: int | None = None) -> np.ndarray:
    """Converts a message to an array, which may be read-only; strings to an object array of bytes.

    If the message has fewer values than the shape, the last one is repeated, as in TensorFlow. Unlike TensorFlow, this
    function rejects messages without values for a shape that is not empty (TensorFlow uses zeros), with too many values
    (truncates), with integers outside the range of the dtype (wraps around), and with strings in `tensor_content`.

    Args:
        proto: message of any dtype except references, resources, variants and quantized numbers.
        largest: maximum number of bytes of an array with repeated values. For an empty array, empty axes count as size
            1, because a graph may create that much from it. None: no limit.

    Raises:
        ValueError: the content does not fit the shape or the dtype.
    """
    dtype = _DTYPES.get(proto.dtype)
    if dtype is None:
        raise ValueError("expected a tensor of numbers, booleans or strings")
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0 or len(sizes) > _MAX_DIMENSIONS:
        raise ValueError(f"expected a fully known shape of at most {_MAX_DIMENSIONS} dimensions")
    count = math.prod(sizes)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, count).reshape(sizes)
    sent = len(getattr(proto, _FIELDS[dtype]))
    if sent > _MAX_VALUES:
        raise ValueError(f"expected at most {_MAX_VALUES} values, or tensor_content. Received: {sent}")
    values = _values(proto, dtype)
    if len(values) > count or len(values) == 0 < count:
        raise ValueError(f"expected {count} values in {_FIELDS[dtype]}. Received: {len(values)}")
    if len(values) < count or count == 0:
        size = math.prod(max(size, 1) for size in sizes) * values.itemsize
        if largest is not None and size > largest:
            raise ValueError(f"expected at most {largest} bytes. Its shape takes {size}")
    if len(values) < count:
        values = np.concatenate([values, np.repeat(values[-1:], count - len(values))])
    return values.reshape(sizes)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Converts an array of numbers or booleans, or an object array of bytes, to a message with a typed value field.

    Clients of TensorFlow Serving expect the typed field.
    """
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _FIELDS:
        raise ValueError(f"expected numbers, booleans or strings. Received: {dtype.name}")
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype in _MEMORY_LAYOUT:
        if array.size:
            key = proto.DESCRIPTOR.fields_by_name[_FIELDS[dtype]].number << 3 | _LENGTH_DELIMITED
            content = array.tobytes()
            proto.MergeFromString(_varint(key) + _varint(len(content)) + content)
    else:
        values = np.ascontiguousarray(array).view(np.uint16) if dtype in _BITS else array
        getattr(proto, _FIELDS[dtype]).extend(values.ravel().tolist())
    return proto


def _from_content(content: bytes, dtype: tf.DType, count: int) -> np.ndarray:
    if dtype == tf.string:
        raise ValueError("expected strings in string_val. Received: tensor_content")
    if len(content) != count * dtype.size:
        raise ValueError(f"expected {count * dtype.size} bytes in tensor_content. Received: {len(content)}")
    if dtype == tf.bool:
        return np.frombuffer(content, np.uint8) != 0
    return np.frombuffer(content, dtype.as_numpy_dtype)


def _values(proto: tensor_pb2.TensorProto, dtype: tf.DType) -> np.ndarray:
    field = getattr(proto, _FIELDS[dtype])
    if dtype == tf.string:
        return np.array(field, dtype=object)
    if dtype in _COMPLEX_PARTS:
        parts = np.array(field, _COMPLEX_PARTS[dtype])
        if len(parts) % 2:
            raise ValueError(f"expected pairs of numbers in {_FIELDS[dtype]}. Received: {len(parts)} numbers")
        return parts.view(dtype.as_numpy_dtype)
    values = np.array(field)
    narrow = values.astype(np.uint16 if dtype in _BITS else dtype.as_numpy_dtype)
    if narrow.dtype != values.dtype and (narrow != values).any():
        raise ValueError(f"expected values in the range of {dtype.name} in {_FIELDS[dtype]}")
    return narrow.view(dtype.as_numpy_dtype)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
