"""Tests of the TensorFlow Datasets catalog and of its error messages."""

import importlib.util

import pytest
import tensorflow_datasets as tfds

from keras_dl.data import load
from keras_dl.data.catalogue import copy_name, find, parts
from keras_dl.errors import UserError

from .tiny_sets import tiny_images, tiny_set


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("train validation test", ("train", "validation", "test")),
        ("train valid test", ("train", "valid", "test")),
        ("train val test", ("train", "val", "test")),
        ("train dev test extra", ("train", "dev", "test")),
        ("train test", ("train[:85%]", "train[85%:]", "test")),
        ("train validation", ("train[:85%]", "validation", "train[85%:]")),
        ("train", ("train[:70%]", "train[70%:85%]", "train[85%:]")),
    ],
)
def test_parts_for_training_validation_and_test(names, expected):
    assert parts(set(names.split())) == expected


def test_a_training_split_is_required():
    with pytest.raises(UserError, match="no split named 'train'. Available: alpha, beta"):
        parts({"beta", "alpha"})


def test_finding_downloads_nothing(tfds_data_dir):
    builder = find("tfds:mnist")
    assert builder.data_dir.startswith(tfds_data_dir)
    assert not builder.data_path.exists()
    assert str(find("tfds:mnist:3.0.1").version) == "3.0.1"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_set", "not found"),
        ("", "Parsing builder name"),
        ("no such set", "Parsing builder name"),
        ("mnist/no_such_configuration", "no_such_configuration not found"),
        ("mnist:9.9.9", "cannot be loaded at version 9.9.9"),
        pytest.param(
            "huggingface:no_such_set",
            "No module named",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("huggingface_hub") is not None, reason="would ask the hub"
            ),
        ),
    ],
)
def test_unknown_data_sets_are_reported_in_one_line(name, reason):
    for load_it in (lambda: load(f"tfds:{name}"), lambda: load("digit_strings", images=f"tfds:{name}")):
        with pytest.raises(UserError, match=f"TensorFlow Datasets has no '{name}': .*({reason})") as caught:
            load_it()
        assert "\n" not in str(caught.value)


@pytest.fixture
def no_network(monkeypatch):
    """Makes every download fail at once: the proxy is a local port without a server."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("tensorflow_datasets.core.download.downloader.MAX_RETRIES", 0)


@pytest.mark.parametrize("options", [{"name": "tfds:mnist"}, {"name": "digit_strings", "images": "tfds:mnist"}])
def test_failed_downloads_report_how_to_get_the_data(options, no_network, tfds_data_dir):
    with pytest.raises(UserError) as caught:
        load(**options)
    message = str(caught.value)
    assert "'tfds:mnist' is not on this machine" in message
    assert "tfds build mnist;" in message
    assert f"{tfds_data_dir}/mnist/" in message
    assert "TFDS_DATA_DIR" in message
    assert "\n" not in message


def test_failed_preparation_is_retried_on_the_next_call(monkeypatch):
    builder = tiny_images("tiny_flaky", {"train": 20})
    works = builder._split_generators

    def fails(self, manager):
        raise OSError("connection lost\nduring the transfer")

    monkeypatch.setattr(builder, "_split_generators", fails)
    with pytest.raises(UserError, match=r"could not be prepared \(OSError: connection lost\)"):
        load("tfds:tiny_flaky")
    monkeypatch.setattr(builder, "_split_generators", works)
    assert [len(split) for split in load("tfds:tiny_flaky")] == [14, 3, 3]


def test_copy_names_differ_between_data_sets_and_versions():
    features = {"text": tfds.features.Text()}
    tiny_set("tiny_one_two", features, {"train": []})
    one = tiny_set("tiny_one", features, {"train": []})
    one.BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="two")]
    names = [copy_name(find(name)) for name in ("tfds:tiny_one_two", "tfds:tiny_one/two", "tfds:tiny_one")]
    assert names[0] != names[1] == names[2]
    one.VERSION = tfds.core.Version("1.1.0")
    assert copy_name(find("tfds:tiny_one/two")) not in names
    assert all(name.isidentifier() for name in names)
