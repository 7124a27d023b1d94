"""Rows made of an example, and variations of it, keep names, shapes and dtypes."""

import numpy as np
import pytest

from keras_dl.serving.export.clean import ModelFailed
from keras_dl.serving.export.rows import (
    KEPT,
    answered_rows,
    cropped_by,
    has_rows,
    open_axes,
    padded_with_zeros,
    ragged,
    repeated,
    varied,
)

IMAGE = {"image": np.arange(1, 13, dtype="float32").reshape(1, 3, 4)}
REQUEST = {**IMAGE, "n": np.array([5]), "text": np.array([b"a b c d"], object), "on": np.array([True])}
SHAPES = {"image": (None, None, None), "n": (None,), "text": (None,), "on": (None,)}


def test_open_axes():
    shapes = {"b": (None, None), "a": (None, None, 3, None), "fixed": (None, 4), "scalar": (), "any": None}
    assert open_axes(shapes) == [("a", 1), ("a", 3), ("b", 1)]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"a": (None, 3)}, True),
        ({"a": (None,), "b": (None, None)}, True),
        ({"a": (None,), "b": ()}, False),
        ({"a": (4, None)}, False),
        ({"a": None}, False),
        ({}, False),
    ],
)
def test_has_rows(shapes, expected):
    assert has_rows(shapes) is expected


def test_ragged_rows_are_padded_along_axes_of_unknown_size():
    rows = ragged(IMAGE, {"image": (None, 3, None)})["image"]
    assert rows.shape == (3, 3, 4)
    assert [(row != 0).sum(axis=1).tolist() for row in rows] == [[4, 4, 4], [3, 3, 3], [1, 1, 1]]
    np.testing.assert_array_equal(rows[0], IMAGE["image"][0])


def test_ragged_strings():
    request = {"text": np.array(["fünf Wörter".encode()], object), "kind": np.array([7], "int32")}
    rows = ragged(request, {"text": (None,), "kind": (None,)})
    assert rows["text"].tolist() == ["fünf Wörter".encode(), "fünf Wö".encode(), b"f"]
    assert rows["kind"].tolist() == [7, 7, 7]
    words = {"words": np.array([[b"a", b"b", b"c"]], object)}
    assert ragged(words, {"words": (None, None)})["words"].tolist() == [
        [b"a", b"b", b"c"],
        [b"a", b"b", b""],
        [b"a", b"", b""],
    ]


def test_padding_repeating_and_cropping():
    array = np.array([[1, 2, 3]])
    assert padded_with_zeros(array, 1, 2).tolist() == [[1, 2, 3, 0, 0]]
    assert repeated(array, 1, 4).tolist() == [[1, 2, 3, 1, 2, 3, 1]]
    assert repeated(array[:, :0], 1, 2).tolist() == [[0, 0]]
    assert cropped_by(array, 1, 2).tolist() == [[1]]


def test_rows_of_other_content():
    rows = varied(REQUEST, SHAPES, dict.fromkeys(REQUEST, 0))
    for name, array in REQUEST.items():
        assert (rows[name].shape, rows[name].dtype) == ((16, *array.shape[1:]), array.dtype)
        np.testing.assert_array_equal(rows[name][0], array[0])  # the first row is the example
    first = rows["image"][:8:2].reshape(4, -1)  # the rows without trailing zeros
    assert (first[0] > 0).all() and (first[1] < 0).all() and (first[3] > 0).all()
    assert first[2].min() < 0 < first[2].max()
    assert rows["n"].min() < 5 < rows["n"].max()
    assert len(set(rows["text"])) > 12 and len({len(text) for text in rows["text"]}) > 5
    assert set(rows["on"]) == {True, False}
    again = varied(REQUEST, SHAPES, dict.fromkeys(REQUEST, 0))
    assert all((rows[name] == again[name]).all() for name in rows)


def test_rows_with_the_values_of_the_example():
    tokens = {**REQUEST, "tokens": np.array([[3, 9, 4, 9]], "int32")}
    rows = varied(tokens, {**SHAPES, "tokens": (None, None)}, dict.fromkeys(tokens, KEPT))
    assert set(rows["n"]) == {5} and set(rows["on"]) == {True}
    assert set(rows["tokens"].ravel()) == {0, 3, 4, 9}
    assert (rows["image"] >= 0).all() and len({row.tobytes() for row in rows["image"]}) == 16
    assert {len(text) for text in rows["text"][::2]} == {7} and len(set(rows["text"])) > 3


@pytest.mark.parametrize("values", [np.zeros((1, 5), "float32"), np.array([0.0]), np.zeros((1, 5), bool)])
def test_zeros_are_varied(values):
    rows = varied({"x": values}, {"x": (None, None)[: values.ndim]}, {"x": 0})["x"]
    assert rows.dtype == values.dtype and rows[1:3].any()


def test_large_examples_give_fewer_rows():
    assert len(varied({"x": np.ones((1, 400_000))}, {"x": (None, None)}, {"x": 0})["x"]) == 4
    assert len(varied({"x": np.ones((1, 10**6))}, {"x": (None, None)}, {"x": 0})["x"]) == 3


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (lambda n: n >= 0, (0, 8)),
        (lambda n: n > 0, (1, 8)),
        (lambda n: n <= 5, (0, 5)),
        (lambda n: (n > 0) & (n <= 5), (1, 5)),
        (lambda n: n >= 5, (5, 6)),
        (lambda n: n == 5, (5, 5)),
    ],
)
def test_each_input_is_varied_as_far_as_the_model_accepts(allowed, expected):
    """Refusing one input does not limit the variations of another."""

    def answer(inputs):
        if not allowed(inputs["n"]).all():
            raise ModelFailed("n")
        return inputs

    rows, together = answered_rows(answer, SHAPES, REQUEST)
    lowest, highest = expected
    assert lowest <= rows["n"].min() <= lowest + 1 and rows["n"].max() == highest
    assert set(rows["on"]) == {True, False} and rows["image"].min() < 0
    assert all((together[name] == rows[name]).all() for name in rows)


def test_small_integers_do_not_overflow():
    rows = varied({"x": np.full((1, 6), 255, "uint8")}, {"x": (None, None)}, {"x": 0})["x"]
    assert rows.dtype == np.uint8 and len(set(rows[2])) > 1


def test_a_model_that_rejects_the_values_of_the_example():
    def answer(inputs):
        raise ModelFailed("no")

    with pytest.raises(ModelFailed, match="no"):
        answered_rows(answer, SHAPES, REQUEST)
