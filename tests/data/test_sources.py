"""Names -> data sets: which parts become which split, and what is kept."""

import pytest
import tensorflow_datasets as tfds

from keras_dl.data import load
from keras_dl.data.sources import prepared
from keras_dl.errors import UserError

from .tiny_sets import tiny_set


def images(split):
    return [example["image"].tobytes() for example in split.as_numpy_iterator()]


@pytest.mark.parametrize(
    ("name", "counts", "parts"),
    [
        ("tiny_three", {"train": 20, "validation": 7, "test": 5}, ("train", "validation", "test")),
        ("tiny_valid", {"train": 20, "valid": 7, "test": 5}, ("train", "valid", "test")),
        ("tiny_val", {"train": 20, "val": 7, "test": 5}, ("train", "val", "test")),
        ("tiny_dev", {"train": 20, "dev": 7, "test": 5, "extra": 3}, ("train", "dev", "test")),
        ("tiny_no_validation", {"train": 20, "test": 5}, ("train[:17]", "train[17:]", "test")),
        ("tiny_no_test", {"train": 20, "validation": 7}, ("train[:17]", "validation", "train[17:]")),
        ("tiny_train_only", {"train": 20}, ("train[:14]", "train[14:17]", "train[17:]")),
    ],
)
def test_every_set_has_three_splits(name, counts, parts):
    builder = tiny_set(name, counts)
    splits = load(f"tfds:{name}")
    found = [images(split) for split in splits]
    expected = [images(builder().as_dataset(split=part, shuffle_files=False)) for part in parts]
    assert found == expected
    assert sum(len(set(part)) for part in found) == len(set().union(*found))  # nothing in two of them
    assert splits.features["label"].names == ["a", "b", "c"]


def test_a_set_is_read_once_and_kept(monkeypatch):
    tiny_set("tiny_kept", {"train": 20})
    first = load("tfds:tiny_kept")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", None)
    assert load("tfds:tiny_kept") is first
    assert images(first.train) == images(first.train)


def test_a_name_may_have_a_version_and_options_go_to_the_builder():
    builder = tiny_set("tiny_versioned", {"train": 20})
    assert str(prepared("tfds:tiny_versioned:1.0.0").version) == "1.0.0"
    folder = prepared("tfds:tiny_versioned").data_dir
    assert prepared("tfds:tiny_versioned", version="1.0.0").data_dir == folder == builder().data_dir


def test_sets_of_ours_go_by_their_name(tfds_data_dir):
    builder = prepared("digit_strings")
    assert builder.data_dir.startswith(tfds_data_dir)
    assert load("digit_strings").features.to_json() == builder.info.features.to_json()


def test_a_set_without_a_training_split_is_refused():
    tiny_set("tiny_no_train", {"alpha": 5, "beta": 5})
    with pytest.raises(UserError, match="no split named train. It has: alpha, beta"):
        load("tfds:tiny_no_train")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UserError, match="unknown data set 'mnist': expected one of digit_strings, .*or tfds:NAME"):
        load("mnist")
