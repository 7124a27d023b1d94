"""Rows made of an example keep names, shapes and dtypes."""

import numpy as np
import pytest

from keras_dl.serving.export.rows import cropped_by, has_rows, open_axes, padded_with_zeros, ragged, repeated

IMAGE = {"image": np.arange(1, 13, dtype="float32").reshape(1, 3, 4)}


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
