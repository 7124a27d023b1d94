"""Tests of loading data sets by name."""

import pytest
import tensorflow_datasets as tfds

from keras_dl.data import load
from keras_dl.data.sources import prepared
from keras_dl.errors import UserError

from .tiny_sets import tiny_images


def images(split):
    return [example["image"].tobytes() for example in split.as_numpy_iterator()]


@pytest.mark.parametrize(
    ("name", "counts", "parts"),
    [
        ("tiny_dev", {"train": 20, "dev": 7, "test": 5, "extra": 3}, ("train", "dev", "test")),
        ("tiny_train_only", {"train": 20}, ("train[:14]", "train[14:17]", "train[17:]")),
    ],
)
def test_data_sets_have_three_disjoint_splits(name, counts, parts):
    builder = tiny_images(name, counts)
    splits = load(f"tfds:{name}")
    found = [images(split) for split in splits]
    expected = [images(builder().as_dataset(split=part, shuffle_files=False)) for part in parts]
    assert found == expected
    assert sum(len(set(part)) for part in found) == len(set().union(*found))
    assert splits.features["label"].names == ["a", "b", "c"]


def test_data_sets_are_cached(monkeypatch):
    tiny_images("tiny_kept", {"train": 20})
    first = load("tfds:tiny_kept")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", None)
    assert load("tfds:tiny_kept") is first
    assert images(first.train) == images(first.train)


def test_versions_in_names_and_options_of_builders():
    builder = tiny_images("tiny_versioned", {"train": 20})
    assert str(prepared("tfds:tiny_versioned:1.0.0").version) == "1.0.0"
    folder = prepared("tfds:tiny_versioned").data_dir
    assert prepared("tfds:tiny_versioned", version="1.0.0").data_dir == folder == builder().data_dir


def test_builders_of_the_package_are_found_by_name(tfds_data_dir):
    builder = prepared("mackey_glass")
    assert builder.data_dir.startswith(tfds_data_dir)
    assert load("mackey_glass").features.to_json() == builder.info.features.to_json()


def test_unknown_names_list_the_builders():
    with pytest.raises(UserError, match="unknown data set 'mnist': expected one of digit_strings, .*or tfds:NAME"):
        load("mnist")
