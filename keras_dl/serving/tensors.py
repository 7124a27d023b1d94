"""`TensorProto` to arrays and back, for the gRPC server and its client.

Source: ``tensorflow/core/framework/tensor.cc`` of https://github.com/tensorflow/tensorflow. Floats and truth values
are packed in a message as they lie in memory, so that whole arrays are copied: the 6400 values of an answer take 3 us,
where appending them takes 260. Stricter on purpose than `tf.make_ndarray` and TensorFlow: see `to_array`.
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
_PACKED_AS_IN_MEMORY = (tf.float32, tf.float64, tf.bool, tf.complex64, tf.complex128)
_BITS = (tf.half, tf.bfloat16)  # 16 bits of the number in a field of integers
_MOST_DIMENSIONS = 64  # numpy's limit
_LENGTH_DELIMITED = 2  # of protobuf's wire format


def to_array(proto: tensor_pb2.TensorProto, largest: int | None = None) -> np.ndarray:
    """The array in a message; strings as an object array of bytes. It may be read-only.

    Fewer values than the shape has are filled up with the last one, as TensorFlow does. Refused, where TensorFlow
    takes it: no values at all for a shape that has some (it puts zeros), too many (it leaves some out), integers beyond
    their type (it wraps them around), strings in `tensor_content`.

    Args:
        proto: of any dtype but references, resources, variants and quantized numbers.
        largest: bytes that an array may take which its message does not hold, but for one value. An empty one counts as
            if its empty axes had the length 1: a graph may make as much of it. None: any number.

    Raises:
        ValueError: the content does not fit the shape or the dtype; the message says how.
    """
    dtype = _DTYPES.get(proto.dtype)
    if dtype is None:
        raise ValueError("expected a tensor of numbers, truth values or strings")
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0 or len(sizes) > _MOST_DIMENSIONS:
        raise ValueError(f"expected a shape that is known, of at most {_MOST_DIMENSIONS} dimensions")
    count = math.prod(sizes)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, count).reshape(sizes)
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
    """A message with the values in the typed field of their dtype, where clients of TensorFlow Serving look for them.

    Args:
        array: of numbers or truth values, or an object array of bytes.

    Raises:
        ValueError: the dtype has no such field.
    """
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _FIELDS:
        raise ValueError(f"expected numbers, truth values or strings. Received: {dtype.name}")
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype in _PACKED_AS_IN_MEMORY:
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
        raise ValueError(f"expected values of {dtype.name} in {_FIELDS[dtype]} and received others")
    return narrow.view(dtype.as_numpy_dtype)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
