"""The store follows its folders: what it loads, what it keeps, what it lets go.

The cases are those of TensorFlow Serving's availability_preserving_policy_test.cc, get_model_status_impl_test.cc and
server_core_test.cc, on real SavedModels; a look at the folders is a call of poll().
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
def test_the_policy_says_what_is_loaded_and_the_highest_answers(base, put, open_store, policy, available):
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


def test_what_is_not_there_is_not_found_in_these_words(put, open_store):
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


def test_the_new_is_loaded_before_the_old_is_let_go_and_running_requests_keep_theirs(base, put, open_store):
    put(1, 1)
    store = open_store()
    held = store.get("hp")
    put(2, 2)
    for _ in range(2):
        store.poll()
    assert answer(store) == (2, 2.0)
    assert states(store) == {2: "AVAILABLE", 1: "UNLOADING"}
    assert held.predict("serving_default", X)["y"] == 1.0
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Specific\(hp, 1\)"):
        store.get("hp", 1)
    del held
    store.poll()
    assert states(store) == {2: "AVAILABLE", 1: "END"}
    shutil.rmtree(base / "2")  # going back: what was unloaded is loaded again
    store.poll()
    assert answer(store) == (1, 1.0)
    assert states(store)[1] == "AVAILABLE"


def test_while_it_loads_the_old_one_answers(put, open_store, monkeypatch):
    put(1, 1)
    store = open_store()
    put(2, 2)
    seen, load = [], store_module.LoadedModel

    def look(*arguments):
        seen.append((answer(store), states(store)))
        return load(*arguments)

    monkeypatch.setattr(store_module, "LoadedModel", look)
    store.poll()
    assert seen == [((1, 1.0), {2: "LOADING", 1: "AVAILABLE"})]


def test_of_two_that_are_not_wanted_one_stays_until_a_wanted_one_is_loaded(base, put, open_store, monkeypatch):
    put(1)
    put(2)
    store = open_store(VersionPolicy(latest=2))
    put(3)
    put(4)
    seen, load = [], store_module.LoadedModel

    def look(*arguments):
        seen.append({version for version, state in states(store).items() if state == "AVAILABLE"})
        return load(*arguments)

    monkeypatch.setattr(store_module, "LoadedModel", look)
    store.poll()
    # TF Serving's order: the lowest goes first, the highest comes first, and never is there nothing.
    assert seen == [{2}, {4}]
    assert {version for version in (1, 2, 3, 4) if states(store)[version] == "AVAILABLE"} == {3, 4}


def test_an_unreachable_folder_unloads_nothing_and_an_empty_one_does(base, put, open_store, caplog):
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


def test_a_folder_out_of_reach_holds_up_no_other_model(base, put, tmp_path):
    put(1, 1)
    (tmp_path / "file").touch()
    configs = [ModelConfig("absent", tmp_path / "absent"), ModelConfig("file", tmp_path / "file")]
    store = ModelStore([*configs, ModelConfig("hp", base)])
    store.poll()
    assert answer(store) == (1, 1.0)
    assert store.unavailable() == ["absent", "file"]


def test_what_no_folder_can_be_called_holds_up_no_other_model(base, put, caplog):
    put(1, 1)
    store = ModelStore([ModelConfig("odd", Path("zero\0byte")), ModelConfig("hp", base)])
    for _ in range(2):
        store.poll()
    assert answer(store) == (1, 1.0)
    assert len(caplog.records) == 1 and "(embedded null byte), retrying" in caplog.text


def test_what_nobody_foresaw_holds_up_no_other_model(base, put, caplog, monkeypatch):
    put(1, 1)
    look = store_module.wanted_versions
    monkeypatch.setattr(store_module, "wanted_versions", lambda config: {}[0] if config.name == "odd" else look(config))
    store = ModelStore([ModelConfig("odd", base), ModelConfig("hp", base)])
    for _ in range(2):
        store.poll()
    assert answer(store) == (1, 1.0)
    assert [record.getMessage() for record in caplog.records] == ["model odd: polling failed (KeyError(0)), retrying"]


def test_the_end_does_not_wait_for_a_load(base, put, monkeypatch):
    put(1)
    loading, told = threading.Event(), []

    def load(*arguments):
        loading.set()
        told.append(arguments[-1].wait(20))
        raise tf.errors.CancelledError(None, None, "the server is shutting down")

    monkeypatch.setattr(store_module, "LoadedModel", load)
    with ModelStore([ModelConfig("hp", base)]) as store:
        assert loading.wait(20)
    assert told == [True] and not store._thread.is_alive()


def test_two_models_of_one_name_are_refused(base):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Illegal to list model hp multiple times in config list"):
        ModelStore([ModelConfig("hp", base), ModelConfig("hp", base)])


def test_what_is_asked_while_versions_change_is_always_answered(put, open_store):
    put(1, 1)
    store = open_store()
    wrong, asked, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            version, value = answer(store)
            asked.append(version)
            if value != version:
                wrong.append((version, value))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(2, 6):
        put(version, version)
        store.poll()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and len(asked) > 5


def test_the_thread_follows_the_folder_and_stops(base, put, eventually):
    with ModelStore([ModelConfig("hp", base)], poll_seconds=0.05) as store:
        assert store.polled.wait(20)
        assert store.unavailable() == ["hp"]
        put(1, 1)
        assert eventually(lambda: not store.unavailable())
        put(2, 2)
        assert eventually(lambda: answer(store) == (2, 2.0))
        assert eventually(lambda: states(store) == {2: "AVAILABLE", 1: "END"})
    assert store.unavailable() == ["hp"]
    assert not store._thread.is_alive()
