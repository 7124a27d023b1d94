"""Loading and unloading versions as the folders change.

The cases follow TensorFlow Serving's availability_preserving_policy_test.cc, get_model_status_impl_test.cc and
server_core_test.cc, with real SavedModels.
"""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server import store as store_module
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.store import ModelStore, VersionStatus

X = {"x": np.zeros(1, np.float32)}


def answer(store, **which):
    model = store.get("hp", **which)
    return model.version, float(model.predict("serving_default", X)["y"][0])


def states(store):
    return {status.version: status.state for status in store.status("hp")}


@pytest.mark.parametrize(
    "policy, available",
    [
        (VersionPolicy(latest=1), [30]),
        (VersionPolicy(latest=2), [30, 20]),
        (VersionPolicy(), [30, 20, 9]),
        (VersionPolicy(specific=(9, 20, 77)), [20, 9]),
        (VersionPolicy(specific=()), []),
    ],
)
def test_the_policy_selects_versions_and_the_highest_is_the_default(base, put, open_store, policy, available):
    for version in (9, 20, 30):
        put(version, version % 9)
    shutil.copytree(base / "30", base / "31.tmp")
    store = open_store(policy)
    for version in (9, 20, 30):
        if version in available:
            assert answer(store, version=version) == (version, version % 9)
        else:
            with pytest.raises(tf.errors.NotFoundError, match=rf"request: Specific\(hp, {version}\)"):
                store.get("hp", version)
    if available:
        assert store.status("hp") == [VersionStatus(version, "AVAILABLE") for version in available]
        assert store.status("hp", available[-1]) == [VersionStatus(available[-1], "AVAILABLE")]
        assert store.get("hp").version == available[0]


def test_messages_for_unknown_models_and_versions(put, open_store):
    put(1)
    store = open_store()
    for name in ("nope", "", "../hp", "hp/../hp"):
        with pytest.raises(tf.errors.NotFoundError) as caught:
            store.get(name)
        assert caught.value.message == f"Servable not found for request: Latest({name})"
        with pytest.raises(tf.errors.NotFoundError) as caught:
            store.status(name)
        assert caught.value.message == f"Could not find any versions of model {name}"
    with pytest.raises(tf.errors.NotFoundError) as caught:
        store.status("hp", 2)
    assert caught.value.message == "Could not find version 2 of model hp"
    assert (store.names(), store.unavailable(), store.labels("nope")) == (["hp"], [], {})


def test_a_new_version_replaces_the_old_one_which_running_requests_keep_alive(base, put, open_store):
    put(1, 1)
    store = open_store()
    in_use = store.get("hp")
    put(2, 2)
    for _ in range(2):
        store.poll()
    assert answer(store) == (2, 2.0)
    assert states(store) == {2: "AVAILABLE", 1: "UNLOADING"}
    assert in_use.predict("serving_default", X)["y"] == 1.0
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Specific\(hp, 1\)"):
        store.get("hp", 1)
    del in_use
    store.poll()
    assert states(store) == {2: "AVAILABLE", 1: "END"}
    shutil.rmtree(base / "2")  # a rollback: the unloaded version is loaded again
    store.poll()
    assert answer(store) == (1, 1.0)
    assert states(store)[1] == "AVAILABLE"


def test_the_old_version_answers_during_a_load(put, open_store, monkeypatch):
    put(1, 1)
    store = open_store()
    put(2, 2)
    seen, load = [], store_module.LoadedModel

    def load_and_record(*arguments):
        seen.append((answer(store), states(store)))
        return load(*arguments)

    monkeypatch.setattr(store_module, "LoadedModel", load_and_record)
    store.poll()
    assert seen == [((1, 1.0), {2: "LOADING", 1: "AVAILABLE"})]


def test_one_of_two_old_versions_stays_until_a_new_one_is_loaded(base, put, open_store, monkeypatch):
    put(1)
    put(2)
    store = open_store(VersionPolicy(latest=2))
    put(3)
    put(4)
    seen, load = [], store_module.LoadedModel

    def load_and_record(*arguments):
        seen.append({version for version, state in states(store).items() if state == "AVAILABLE"})
        return load(*arguments)

    monkeypatch.setattr(store_module, "LoadedModel", load_and_record)
    store.poll()
    # TF Serving's order: unload the lowest, load the highest, and always keep one.
    assert seen == [{2}, {4}]
    assert {version for version in (1, 2, 3, 4) if states(store)[version] == "AVAILABLE"} == {3, 4}


def test_an_unreadable_folder_unloads_nothing_and_an_empty_one_unloads_all(base, put, open_store, caplog):
    put(1, 1)
    store = open_store()
    os.rename(base, base.with_name("elsewhere"))
    for _ in range(3):
        store.poll()
    assert answer(store) == (1, 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"model hp: cannot read its folder {base} (No such file or directory), retrying"
    ]
    base.mkdir()
    for _ in range(3):
        store.poll()
    assert [record.getMessage() for record in caplog.records[1:]] == [
        f"model hp: none of the configured versions is in {base}"
    ]
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Latest\(hp\)"):
        store.get("hp")
    assert store.unavailable() == ["hp"]
    store.poll()
    assert states(store) == {1: "END"}


def test_an_unreadable_folder_does_not_affect_other_models(base, put, tmp_path):
    put(1, 1)
    (tmp_path / "file").touch()
    configs = [ModelConfig("absent", tmp_path / "absent"), ModelConfig("file", tmp_path / "file")]
    store = ModelStore([*configs, ModelConfig("hp", base)])
    store.poll()
    assert answer(store) == (1, 1.0)
    assert store.unavailable() == ["absent", "file"]


def test_an_invalid_path_does_not_affect_other_models(base, put, caplog):
    put(1, 1)
    store = ModelStore([ModelConfig("odd", Path("zero\0byte")), ModelConfig("hp", base)])
    for _ in range(2):
        store.poll()
    assert answer(store) == (1, 1.0)
    assert len(caplog.records) == 1 and "(embedded null byte), retrying" in caplog.text


def test_an_unexpected_error_does_not_affect_other_models(base, put, caplog, monkeypatch):
    put(1, 1)
    select = store_module.wanted_versions

    def fail_for_odd(config):
        return {}[0] if config.name == "odd" else select(config)

    monkeypatch.setattr(store_module, "wanted_versions", fail_for_odd)
    store = ModelStore([ModelConfig("odd", base), ModelConfig("hp", base)])
    for _ in range(2):
        store.poll()
    assert answer(store) == (1, 1.0)
    assert [record.getMessage() for record in caplog.records] == ["model odd: polling failed (KeyError(0)), retrying"]


def test_exit_cancels_a_running_load(base, put, monkeypatch):
    put(1)
    loading, stopped = threading.Event(), []

    def load(*arguments):
        loading.set()
        stopped.append(arguments[-1].wait(120))
        raise tf.errors.CancelledError(None, None, "the server is shutting down")

    monkeypatch.setattr(store_module, "LoadedModel", load)
    with ModelStore([ModelConfig("hp", base)]) as store:
        assert loading.wait(120)
    store._thread.join(120)
    assert stopped == [True]


def test_duplicate_names_are_rejected(base):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Illegal to list model hp multiple times in config list"):
        ModelStore([ModelConfig("hp", base), ModelConfig("hp", base)])


def test_requests_are_answered_while_versions_change(put, open_store, eventually):
    put(1, 1)
    store = open_store()
    wrong, versions, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            version, value = answer(store)
            versions.append(version)
            if value != version:
                wrong.append((version, value))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(2, 6):
        put(version, version)
        store.poll()
        eventually(lambda: version in versions)  # noqa: B023
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and set(range(2, 6)) <= set(versions)


def test_the_thread_polls_until_exit(base, put, eventually):
    with ModelStore([ModelConfig("hp", base)], poll_seconds=0.05) as store:
        assert store.polled.wait(120)
        assert store.unavailable() == ["hp"]
        put(1, 1)
        assert eventually(lambda: not store.unavailable())
        put(2, 2)
        assert eventually(lambda: answer(store) == (2, 2.0))
        assert eventually(lambda: states(store) == {2: "AVAILABLE", 1: "END"})
    assert store.unavailable() == ["hp"]
    assert not store._thread.is_alive()


def test_a_model_is_unavailable_until_the_first_poll(base, put):
    put(1)
    store = ModelStore([ModelConfig("hp", base, labels={"stable": 1})])
    for label in (None, "stable"):
        with pytest.raises(tf.errors.UnavailableError, match="model hp is being loaded"):
            store.get("hp", label=label)
    with pytest.raises(tf.errors.NotFoundError):
        store.get("other")
    store.poll()
    assert store.get("hp", label="stable").version == 1
