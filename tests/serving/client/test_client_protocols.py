"""REST and gRPC return equal arrays for the same request, for all dtypes and shapes."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_dl.errors import UserError
from keras_dl.serving import Client

NUMBERS = [
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint32",
    "uint64",
    "bool",
]  # supported in JSON
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.just('a\0b"\\\n\u2028\U0001f600')


@pytest.fixture(scope="module")
def both(url, grpc_address):
    with Client(url, retries=0) as rest, Client(f"grpc://{grpc_address}", retries=0) as grpc:
        yield rest, grpc


def ask(both, value, signature_name):
    return [client.predict("echo", {"x": value}, signature_name) for client in both]


def has_json_shape(shape):
    """Returns True if JSON can represent a shape: an empty list hides the sizes of later axes."""
    return 0 not in shape[:-1]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)))
def test_numbers(both, array):
    assume(has_json_shape(array.shape))
    rest, grpc = (outputs["y"] for outputs in ask(both, array, array.dtype.name))
    assert rest.dtype == grpc.dtype == array.dtype and rest.shape == grpc.shape == array.shape
    np.testing.assert_array_equal(grpc, array)
    np.testing.assert_array_equal(rest, array)
    if array.dtype.kind == "f":  # JSON has only one NaN
        numbers = ~np.isnan(array)
        np.testing.assert_array_equal(np.signbit(rest[numbers]), np.signbit(array[numbers]))


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(object, SHAPES, elements=TEXTS))
def test_strings(both, array):
    assume(has_json_shape(array.shape))
    rest, grpc = ask(both, array, "string")
    for outputs in (rest, grpc):
        assert outputs["y"].shape == outputs["y_bytes"].shape == array.shape
        assert outputs["y"].tolist() == array.tolist()
        assert [content.decode() for content in outputs["y_bytes"].flat] == list(array.flat)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(object, arrays.array_shapes(max_dims=2, max_side=3), elements=st.binary()))
def test_bytes(both, array):
    rest, grpc = ask(both, array, "string")
    assert rest["y_bytes"].tolist() == grpc["y_bytes"].tolist() == array.tolist()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integer_limits(both, dtype):
    limits = np.iinfo(dtype)
    values = [limits.min, limits.max, limits.max - 1, 2**53 + 1]
    for outputs in ask(both, values, dtype):
        assert outputs["y"].dtype == dtype and outputs["y"].tolist() == values


def test_nan_infinity_and_negative_zero(both):
    values = np.array([[np.nan, -np.inf], [np.inf, -0.0], [3.4e38, 1e-45]], np.float32)
    for outputs in ask(both, values, "float32"):
        assert outputs["y"].dtype == np.float32
        np.testing.assert_array_equal(outputs["y"], values)
        assert np.signbit(outputs["y"][1, 1])


def test_shapes_that_json_cannot_represent_require_grpc(both):
    rest, grpc = both
    inputs = {"features": np.zeros((0, 3, 2), np.float32), "length": np.zeros(0, np.int64)}
    assert grpc.predict("sequences", inputs)["total"].shape == (0, 2)
    with pytest.raises(UserError, match=r"JSON cannot represent the shape \(0, 3, 2\): use a grpc:// URL"):
        rest.predict("sequences", inputs)


def test_dtypes_that_json_cannot_represent_require_grpc(both):
    rest, grpc = both
    half = np.array([1.5, np.nan], np.float16)
    found = grpc.predict("echo", {"x": half}, "float16")["y"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, half)
    complexes = np.array([1 + 2j], np.complex64)
    assert grpc.predict("echo", {"x": complexes}, "complex64")["y"].tolist() == [1 + 2j]
    with pytest.raises(UserError, match="echo: the server refused the request: "):
        rest.predict("echo", {"x": half}, "float16")
    with pytest.raises(UserError, match="JSON cannot represent complex64 values: use a grpc:// URL"):
        rest.predict("echo", {"x": complexes}, "complex64")


def test_strings_that_are_not_utf8_are_bytes_over_grpc(both):
    _, grpc = both
    found = grpc.predict("echo", {"x": ["ü", b"\xff"]}, "string")
    assert found["y"].tolist() == ["ü", b"\xff"] and found["y_bytes"].tolist() == ["ü".encode(), b"\xff"]


@pytest.mark.parametrize("client", [0, 1])
@pytest.mark.parametrize(
    "value, signature_name, problem",
    [
        ([1.5], "int32", r"echo: input x: expected int32. Received: floats of shape \(1,\)"),
        ([300, -1], "uint8", r"echo: input x: expected uint8. Received: -1 to 300"),
        ([2**70], "int64", r"echo: input x: expected int64. Received: values that are not all numbers"),
        ([None], "float32", r"echo: input x: expected float32. Received: values that are not all numbers"),
        ([1.0, 1e300], "float32", r"echo: input x: expected float32. Received: 1e\+300, which is out of range"),
        (["a"], "float32", r"echo: input x: expected float32. Received: strings of shape \(1,\)"),
        ([True], "float32", r"echo: input x: expected float32. Received: booleans of shape \(1,\)"),
        ([1], "bool", r"echo: input x: expected bool. Received: integers of shape \(1,\)"),
        ([[1, 2], [3]], "float32", r"echo: input x: expected float32. Received: lists of different lengths"),
        ([1], "string", r"echo: input x: expected string. Received: int"),
        ([["a", "b"], ["c"]], "string", r"echo: input x: expected string. Received: list"),
        (["\ud800"], "string", r"echo: input x: expected valid Unicode"),
    ],
)
def test_values_that_do_not_fit_are_not_sent(both, client, value, signature_name, problem):
    with pytest.raises(UserError, match=problem):
        both[client].predict("echo", {"x": value}, signature_name)


@pytest.mark.parametrize(
    "value, signature_name, sent",
    [
        (2, "float32", 2.0),
        (np.float64(0.1), "float32", float(np.float32(0.1))),
        ([1, 2], "float64", [1.0, 2.0]),
        (np.uint8([1, 2]), "int64", [1, 2]),
        (np.int64([1, 2]), "uint8", [1, 2]),
        ([], "int32", []),
        (np.array([1, 2], ">i4"), "int32", [1, 2]),
        (np.arange(6).reshape(2, 3).T, "int64", [[0, 3], [1, 4], [2, 5]]),
        ("a", "string", "a"),
        (np.array(["a", "b"]), "string", ["a", "b"]),
        (np.array([b"a", b"b"]), "string", ["a", "b"]),
    ],
)
def test_values_are_converted_to_the_dtype_of_the_signature(both, value, signature_name, sent):
    for outputs in ask(both, value, signature_name):
        assert outputs["y"].tolist() == sent
