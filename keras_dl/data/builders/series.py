"""A numeric time series from the user's file."""

import csv
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.builders.base import BaseBuilder
from keras_dl.errors import UserError, reason_of

SHORTEST = 100


@dataclasses.dataclass(eq=False)
class SeriesConfig(tfds.core.BuilderConfig):
    """The source of the series, a `.npy` or a CSV file."""

    file: str | None = None


class Series(BaseBuilder):
    """A time series from a file, with one row per step and one column per variable.

    The series is cut into consecutive splits: the first 70% for training, then 15% for validation and 15% for test.

    Features: `series` float64 `[T, D]`, one example per split.
    """

    def __init__(self, file=None, **kwargs):
        if "config" not in kwargs:
            if file is None:
                raise UserError("the data set series requires a file: load('series', file=PATH)")
            series = read(Path(file))
            name = f"file_{hashlib.sha256(str(series.shape).encode() + series.tobytes()).hexdigest()[:16]}"
            kwargs["config"] = SeriesConfig(name=name, file=str(file))
        super().__init__(**kwargs)

    def _info(self):
        return self.dataset_info_from_configs(features=features(read(Path(self.builder_config.file)).shape[1]))

    def _split_generators(self, dl_manager):
        parts = cut(read(Path(self.builder_config.file)))
        return {split: [(split, {"series": part})] for split, part in parts.items()}


def features(variables):
    """Returns the features of a series example: `series` float64 `[T, variables]`."""
    # As bytes, because TFDS would otherwise store float64 in float32 precision.
    tensor = tfds.features.Tensor(shape=(None, variables), dtype=np.float64, encoding="bytes")
    return tfds.features.FeaturesDict({"series": tensor})


def cut(series):
    """Cuts a series `[T, D]` into consecutive splits, 70/15/15.

    Example:

    >>> {split: len(part) for split, part in cut(np.zeros([200, 1])).items()}
    {'train': 140, 'validation': 30, 'test': 30}
    """
    first, second = len(series) * 70 // 100, len(series) * 85 // 100
    return {"train": series[:first], "validation": series[first:second], "test": series[second:]}


def read(path):
    """Reads a series from a file, float64 `[T, D]`.

    A `.npy` file contains `[T]` or `[T, D]`, without pickled objects. Any other file is read as CSV: one row per step,
    one column per variable, separated by commas, semicolons or tabs. The first row is a header if it is not all
    numbers. Empty rows are ignored.

    Raises:
        UserError: if the file cannot be read, contains anything but finite numbers (the message gives the line), has a
            constant column, or has fewer than 100 steps.
    """
    try:
        series = _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
    except OSError as error:
        raise UserError(f"cannot read the series {path}: {error.strerror or error}") from error
    if len(series) < SHORTEST:
        raise UserError(f"expected a series of at least {SHORTEST} steps. {path} has {len(series)}")
    constant = np.flatnonzero((series == series[0]).all(axis=0))
    if len(constant):
        raise UserError(f"column {constant[0] + 1} of {path} is constant and cannot be forecast")
    return series


def _read_npy(path):
    try:
        series = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is not a .npy file of numbers: {reason_of(error)}") from error
    if not isinstance(series, np.ndarray) or series.dtype.kind not in "iuf" or series.ndim not in (1, 2):
        found = f"{series.dtype} {series.shape}" if isinstance(series, np.ndarray) else type(series).__name__
        raise UserError(f"{path} must contain numbers of shape [T] or [T, D]. Received: {found}")
    series = series.astype(np.float64).reshape(len(series), -1)
    if not series.shape[1]:
        raise UserError(f"{path} must have at least one column. Received: shape {series.shape}")
    wrong = np.argwhere(~np.isfinite(series))
    if len(wrong):
        step, column = wrong[0]
        raise UserError(f"{path}: expected finite numbers. Received: {series[step, column]} at index {step}")
    return series


def _read_csv(path):
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is neither a UTF-8 CSV file nor a .npy file") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows, width = [], None
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        header = width is None and not all(_is_number(cell) for cell in cells)
        width = width or len(cells)
        if len(cells) != width:
            raise UserError(f"{path}:{reader.line_num}: expected {width} columns. Received: {len(cells)}")
        if not header:
            rows.append([_number(cell, path, reader.line_num) for cell in cells])
    return np.array(rows, np.float64).reshape(len(rows), width or 1)


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell, path, line):
    if not _is_number(cell) or not np.isfinite(float(cell)):
        raise UserError(f"{path}:{line}: expected a finite number. Received: {cell.strip() or 'an empty cell'}")
    return float(cell)
