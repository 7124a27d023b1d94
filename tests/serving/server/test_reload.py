"""Reloading the configuration of a store, and labels.

The cases follow TensorFlow Serving's server_core_test.cc.
"""

import os
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server import store as store_module
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.store import ModelStore, VersionStatus

BOTH = VersionPolicy(latest=2)


def answer(store, name="hp", **which):
    model = store.get(name, **which)
    return model.version, float(model.predict("serving_default", {"x": np.zeros(1, np.float32)})["y"][0])


@pytest.fixture
def two(base, put, open_store):
    """A store of the versions 1 and 2, with y = x + 1 and y = x + 2."""
    put(1, 1)
    put(2, 2)
    return open_store(BOTH)


@pytest.fixture
def other(put, tmp_path):
    """Another base folder, with version 1 and y = x + 3."""
    (tmp_path / "other").mkdir()
    put(1, 3, to=tmp_path / "other")
    return tmp_path / "other"


def test_reload_returns_when_new_models_are_available_and_old_ones_are_unloaded(base, two, other):
    two.reload([ModelConfig("new", other), ModelConfig("hp", base, BOTH)])
    assert (answer(two), answer(two, "new")) == ((2, 2.0), (1, 3.0))
    assert two.names() == ["new", "hp"]
    two.reload([ModelConfig("new", other)])
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Latest\(hp\)"):
        two.get("hp")
    two.poll()
    assert two.status("hp") == [VersionStatus(2, "END"), VersionStatus(1, "END")]
    assert (two.names(), two.unavailable()) == (["new"], [])
    two.reload([ModelConfig("hp", base)])  # an unloaded model is loaded again
    assert answer(two) == (2, 2.0)
    two.reload([])
    assert two.names() == []


def test_labels_are_removed_with_their_model(base, two, other):
    two.reload([ModelConfig("hp", base, BOTH, {"A": 1})])
    two.reload([ModelConfig("new", other)])
    assert two.labels("hp") == {}
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unrecognized servable version label: A"):
        two.get("hp", label="A")


def test_unchanged_models_are_not_reloaded(base, two, other):
    before = [two.get("hp", 1), two.get("hp", 2)]
    two.reload([ModelConfig("hp", base, BOTH), ModelConfig("new", other)])
    assert [two.get("hp", 1), two.get("hp", 2)] == before
    two.reload([ModelConfig("hp", base, VersionPolicy(specific=(1,)))])
    assert two.get("hp") is before[0]


def test_a_new_base_path_is_loaded_even_with_the_same_version(base, two, other):
    two.reload([ModelConfig("hp", other)])
    assert answer(two) == (1, 3.0)
    with pytest.raises(tf.errors.NotFoundError):
        two.get("hp", 2)
    two.reload([ModelConfig("hp", base, BOTH)])
    assert (answer(two), answer(two, version=1)) == ((2, 2.0), (1, 1.0))


def test_a_new_base_path_without_a_loadable_version_unloads_nothing(two, tmp_path):
    (tmp_path / "broken" / "2").mkdir(parents=True)
    two.reload([ModelConfig("hp", tmp_path / "broken")])
    assert answer(two) == (2, 2.0)
    assert two.status("hp", 2) == [VersionStatus(2, "AVAILABLE")]


def test_duplicate_names_are_rejected(base, two, other):
    message = "Illegal to list model new multiple times in config list"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        two.reload([ModelConfig("new", other), ModelConfig("new", other)])
    assert (two.names(), answer(two)) == (["hp"], (2, 2.0))


def test_a_new_model_that_fails_to_load_is_reported_and_the_others_are_served(base, two, other, put, tmp_path):
    (tmp_path / "broken" / "5").mkdir(parents=True)
    configs = [ModelConfig("hp", base, BOTH), ModelConfig("broken", tmp_path / "broken"), ModelConfig("new", other)]
    with pytest.raises(tf.errors.UnknownError) as caught:
        two.reload([*configs, ModelConfig("absent", tmp_path / "absent")])
    assert caught.value.message.startswith(
        "2 model(s) did not become available: {{{name: broken version: 5} due to error: NOT_FOUND: "
    )
    assert "{name: absent}" in caught.value.message and str(tmp_path) not in caught.value.message
    assert (answer(two), answer(two, "new")) == ((2, 2.0), (1, 3.0))
    two.reload(configs)  # only new models are reported
    assert two.unavailable() == ["broken"]
    (tmp_path / "broken" / "5").rmdir()
    put(5, 4, to=tmp_path / "broken")
    two.poll()
    assert answer(two, "broken") == (5, 4.0)


def test_a_reload_retries_broken_versions_at_once(base, two, caplog):
    (base / "3").mkdir()
    for _ in range(2):
        two.poll()
        assert len(caplog.records) == 1
    two.reload([ModelConfig("hp", base, BOTH)])
    assert len(caplog.records) == 2


def test_labels_refer_to_their_versions(base, two):
    two.reload([ModelConfig("hp", base, BOTH, {"A": 1, "B": 2})])
    assert (answer(two, label="A"), answer(two, label="B")) == ((1, 1.0), (2, 2.0))
    assert two.labels("hp") == {"A": 1, "B": 2}
    two.reload([ModelConfig("hp", base, BOTH, {"A": 2})])
    assert answer(two, label="A") == (2, 2.0)
    for name, label in (("hp", "B"), ("hp", "nonexistent label"), ("hp", ""), ("nope", "A")):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            two.get(name, label=label)
        assert caught.value.message == f"Unrecognized servable version label: {label}"


@pytest.mark.parametrize("labels", [{"nice try": 7}, {"A": 7}, {"A": 1, "B": 3}])
def test_a_label_of_an_unavailable_version_is_rejected(base, put, two, labels, other):
    two.reload([ModelConfig("hp", base, BOTH, {"A": 1})])
    put(3, 4)  # exists, but is not loaded
    (version,) = {version for version in labels.values() if version > 2}
    with pytest.raises(tf.errors.FailedPreconditionError) as caught:
        two.reload([ModelConfig("hp", base, VersionPolicy(), labels), ModelConfig("new", other)])
    assert caught.value.message == (
        f"Request to assign label to version {version} of model hp, which is not currently available for inference"
    )
    assert (two.names(), two.labels("hp")) == (["hp"], {"A": 1})
    with pytest.raises(tf.errors.FailedPreconditionError, match="version 1 of model new, which is not"):
        two.reload([ModelConfig("new", other, labels={"A": 1})])


def test_a_label_whose_version_was_unloaded_is_not_found(base, two):
    two.reload([ModelConfig("hp", base, VersionPolicy(latest=1), {"A": 1})])
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Specific\(hp, 1\)"):
        two.get("hp", label="A")


def test_initial_labels_wait_for_their_versions(base, put, open_store):
    put(1, 1)
    store = open_store(BOTH, labels={"stable": 1, "canary": 2})
    assert answer(store, label="stable") == (1, 1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unrecognized servable version label: canary"):
        store.get("hp", label="canary")
    put(2, 2)
    store.poll()
    assert answer(store, label="canary") == (2, 2.0)


def test_waiting_labels_keep_their_old_versions(base, put, two):
    two.reload([ModelConfig("hp", base, BOTH, {"champion": 2})])
    two.reload([ModelConfig("hp", base, BOTH, {"champion": 3, "old": 1})], labels_wait=True)
    assert (answer(two, label="champion"), answer(two, label="old")) == ((2, 2.0), (1, 1.0))
    put(3, 3)
    two.poll()
    assert answer(two, label="champion") == (3, 3.0)
    assert two.labels("hp") == {"champion": 3, "old": 1}


def test_a_label_moves_before_its_old_version_is_unloaded(base, put, open_store, monkeypatch):
    put(1, 1)
    store = open_store(labels={"champion": 1})
    store.reload([ModelConfig("hp", base, labels={"champion": 2})], labels_wait=True)
    put(2, 2)
    seen, unload = [], store._unload
    monkeypatch.setattr(store, "_unload", lambda *version: seen.append(store.labels("hp")) or unload(*version))
    store.poll()
    assert seen == [{"champion": 2}]
    assert answer(store, label="champion") == (2, 2.0)


def test_a_label_that_moves_during_a_lookup_is_found(base, two, monkeypatch):
    two.reload([ModelConfig("hp", base, labels={"A": 2})])
    lookups = iter([{"A": 1}])  # the first lookup sees the old version

    class Moving(dict):
        def get(self, name, default=None):
            return next(lookups, super().get(name, default))

    monkeypatch.setattr(two, "_labels", Moving(two._labels))
    assert two.get("hp", label="A").version == 2


def test_concurrent_reloads_are_serialized(base, put, other):
    put(1, 1)
    one, two = [ModelConfig("hp", base)], [ModelConfig("new", other)]
    with ModelStore(one, poll_seconds=0.01) as store:
        assert store.polled.wait(120)
        threads = [threading.Thread(target=store.reload, args=(configs,)) for configs in [one, two] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (name,) = store.names()
        assert store.unavailable() == []
        gone = {"hp": "new", "new": "hp"}[name]
        with pytest.raises(tf.errors.NotFoundError):
            store.get(gone)


def test_a_withdrawn_version_stays_loaded_until_its_label_has_moved(base, two):
    two.reload([ModelConfig("hp", base, BOTH, {"stable": 2})])
    os.rename(base / "2", base / ".withdrawn-2")
    for _ in range(2):
        two.poll()
        assert answer(two, label="stable") == (2, 2.0)
    two.reload([ModelConfig("hp", base, BOTH, {"stable": 1})])
    assert answer(two, label="stable") == answer(two) == (1, 1.0)
    with pytest.raises(tf.errors.NotFoundError):
        two.get("hp", 2)


def test_a_withdrawn_version_is_unloaded_after_a_while_if_its_label_does_not_move(base, two, monkeypatch):
    two.reload([ModelConfig("hp", base, BOTH, {"stable": 2})])
    os.rename(base / "2", base / ".withdrawn-2")
    two.poll()
    assert answer(two) == (2, 2.0)
    monkeypatch.setattr(store_module, "_LABELLED_SECONDS", 0.0)
    two.poll()
    assert answer(two) == (1, 1.0)
