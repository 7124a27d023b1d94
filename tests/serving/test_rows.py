"""Rows made of an example keep what it takes to be answered: names, shapes, types."""

import numpy as np
import pytest

from keras_dl.serving.rows import cropped_by, has_rows, open_axes, padded_with_zeros, ragged, repeated, varied

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


def test_ragged_rows_are_padded_along_open_axes_alone():
    rows = ragged(IMAGE, {"image": (None, 3, None)})["image"]
    assert rows.shape == (3, 3, 4)
    assert [(row != 0).sum(axis=1).tolist() for row in rows] == [[4, 4, 4], [3, 3, 3], [1, 1, 1]]
    np.testing.assert_array_equal(rows[0], IMAGE["image"][0])


def test_ragged_texts():
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


def test_varied_rows():
    request = {**IMAGE, "n": np.array([5]), "text": np.array([b"a b c d"], object), "on": np.array([True])}
    shapes = {"image": (None, None, None), "n": (None,), "text": (None,), "on": (None,)}
    rows = varied(request, shapes, whole_numbers=True)
    for name, array in request.items():
        assert (rows[name].shape, rows[name].dtype) == ((8, *array.shape[1:]), array.dtype)
        np.testing.assert_array_equal(rows[name][0], array[0])  # the example itself is the first
    assert len({row.tobytes() for row in rows["image"]}) == 8
    assert (rows["n"] >= 0).all() and (rows["n"] <= 5).all() and len(set(rows["n"])) > 1
    assert len({*rows["text"]}) > 3
    kept = varied(request, shapes, whole_numbers=False)
    assert set(kept["n"]) == {5}
    np.testing.assert_array_equal(kept["image"], varied(request, shapes, whole_numbers=False)["image"])


def test_large_examples_make_fewer_rows():
    assert len(varied({"x": np.ones((1, 100_000))}, {"x": (None, None)}, True)["x"]) == 4
    assert len(varied({"x": np.ones((1, 10**6))}, {"x": (None, None)}, True)["x"]) == 3


def test_tokens_stay_tokens_of_the_example():
    tokens = {"tokens": np.array([[3, 9, 4, 9]], "int32")}
    assert set(varied(tokens, {"tokens": (None, None)}, True)["tokens"].ravel()) <= {0, 3, 4, 9}


def test_lengths():
    array = np.array([[1, 2, 3]])
    assert padded_with_zeros(array, 1, 2).tolist() == [[1, 2, 3, 0, 0]]
    assert repeated(array, 1, 4).tolist() == [[1, 2, 3, 1, 2, 3, 1]]
    assert repeated(array[:, :0], 1, 2).tolist() == [[0, 0]]
    assert cropped_by(array, 1, 2).tolist() == [[1]]
