"""Tests of series from users' files."""

import re

import numpy as np
import pytest

from keras_dl.data import load
from keras_dl.data.builders import series
from keras_dl.errors import UserError

VALUES = np.random.default_rng(0).normal(size=(200, 3))


@pytest.fixture
def file(tmp_path):
    def make(content, name="series.csv"):
        path = tmp_path / name
        if isinstance(content, np.ndarray):
            np.save(path, content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def csv_text(values=VALUES, delimiter=",", header=""):
    return header + "\n".join(delimiter.join(map(repr, row)) for row in values.tolist()) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [False, True])
def test_csv(delimiter, header, file):
    names = delimiter.join(["a", "b", "c"]) + "\n" if header else ""
    np.testing.assert_array_equal(series.read(file(csv_text(delimiter=delimiter, header=names))), VALUES)


def test_csv_from_a_spreadsheet(file):
    text = "\ufefftemperature\r\n" + "\r\n".join(f"{value} " for value in VALUES[:, 0]) + "\r\n\r\n"
    np.testing.assert_array_equal(series.read(file(text)), VALUES[:, :1])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16"])
@pytest.mark.parametrize("shape", [(200,), (200, 3)])
def test_npy(dtype, shape, file):
    values = (100 * VALUES if len(shape) > 1 else 100 * VALUES[:, 0]).astype(dtype)
    found = series.read(file(values, "series.npy"))
    assert found.dtype == "float64"
    np.testing.assert_array_equal(found, values.reshape(200, -1))


def test_splits_are_consecutive(file):
    splits = load("series", file=str(file(csv_text())))
    parts = [next(split.as_numpy_iterator())["series"] for split in splits]
    assert [len(part) for part in parts] == [140, 30, 30]
    np.testing.assert_array_equal(np.concatenate(parts), VALUES)
    assert splits.features["series"].shape == (None, 3)


def test_the_name_depends_on_the_numbers(file):
    names = [series.Series(file=file(values, "a.npy")).builder_config.name for values in (VALUES, 2 * VALUES)]
    assert names[0] != names[1]
    assert names[0] == series.Series(file=file(csv_text(), "b.csv")).builder_config.name  # the same numbers


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "at least 100 steps. .*series.csv has 0"),
        ("x\n" + "1\n2\n" * 49, "has 98"),
        ("1,2\n" * 50 + "1,two\n" + "1,2\n" * 50, r"series.csv:51: expected a finite number. Received: two"),
        ("a,b\n" + "1,2\n" * 50 + "1,\n", r"series.csv:52: expected a finite number. Received: an empty cell"),
        ("1,2\n" * 50 + "1,nan\n", r"series.csv:51: expected a finite number. Received: nan"),
        ("1,2\n" * 50 + "1,inf\n", r"series.csv:51: expected a finite number. Received: inf"),
        ("1,2\n" * 50 + "1\n", r"series.csv:51: expected 2 columns. Received: 1"),
        ("1,2\n3,2\n" * 50, "column 2 of .*series.csv is constant"),
        (b"\x93NUMPY\xff", "neither a UTF-8 CSV file nor a .npy file"),
    ],
)
def test_invalid_csv_files(content, message, file):
    with pytest.raises(UserError, match=message):
        load("series", file=str(file(content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array(["a"] * 200), r"must contain numbers of shape \[T\] or \[T, D\]. Received: <U1 \(200,\)"),
        (np.zeros((200, 2, 2)), r"Received: float64 \(200, 2, 2\)"),
        (np.zeros((200, 0)), r"at least one column. Received: shape \(200, 0\)"),
        (np.array([{}] * 200), "is not a .npy file of numbers: Object arrays cannot be loaded when allow_pickle=False"),
        (np.where(np.arange(200) == 7, np.nan, 1.0), "expected finite numbers. Received: nan at index 7"),
        (VALUES[:99], "has 99"),
        (b"no array", "is not a .npy file of numbers"),
        (b"", "is not a .npy file of numbers"),
    ],
)
def test_invalid_npy_files(content, message, file):
    with pytest.raises(UserError, match=message):
        load("series", file=str(file(content, "series.npy")))


@pytest.mark.parametrize("name", ["absent.csv", "absent.npy"])
def test_missing_files(name, tmp_path):
    with pytest.raises(UserError, match=f"cannot read the series {re.escape(str(tmp_path / name))}: No such file"):
        load("series", file=str(tmp_path / name))
    with pytest.raises(UserError, match="cannot read the series .*: Is a directory"):
        load("series", file=str(tmp_path))


def test_a_file_is_required():
    with pytest.raises(UserError, match="requires a file"):
        load("series")
