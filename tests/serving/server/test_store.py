"""The store follows its folders: what it loads, what it keeps, what it lets go.

The cases are those of TensorFlow Serving's availability_preserving_policy_test.cc, get_model_status_impl_test.cc and
server_core_test.cc, on real SavedModels; a look at the folders is a call of poll().
"""

import os
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.store import ModelStore, VersionStatus

X = {"x": np.zeros(1, np.float32)}


def answer(store, **which):
    model = store.get("hp", **which)
    return model.version, float(model.predict("serving_default", X)["y"][0])


def states(store):
    return {status.version: status.state for status in store.status("hp")}


def break_it(folder):
    (folder / "saved_model.pb").write_bytes(b"\x08\x01half")


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
    from keras_dl.serving.server import store as module

    put(1, 1)
    store = open_store()
    put(2, 2)
    seen, load = [], module.LoadedModel

    def look(*arguments):
        seen.append((answer(store), states(store)))
        return load(*arguments)

    monkeypatch.setattr(module, "LoadedModel", look)
    store.poll()
    assert seen == [((1, 1.0), {2: "LOADING", 1: "AVAILABLE"})]


def test_of_two_that_are_not_wanted_one_stays_until_a_wanted_one_is_loaded(base, put, open_store, monkeypatch):
    from keras_dl.serving.server import store as module

    put(1)
    put(2)
    store = open_store(VersionPolicy(latest=2))
    put(3)
    put(4)
    seen, load = [], module.LoadedModel

    def look(*arguments):
        seen.append({version for version, state in states(store).items() if state == "AVAILABLE"})
        return load(*arguments)

    monkeypatch.setattr(module, "LoadedModel", look)
    store.poll()
    # TF Serving's order: the lowest goes first, the highest comes first, and never is there nothing.
    assert seen == [{2}, {4}]
    assert {version for version in (1, 2, 3, 4) if states(store)[version] == "AVAILABLE"} == {3, 4}


def test_a_broken_one_among_several_keeps_the_others(put, open_store):
    put(1, 1)
    store = open_store(VersionPolicy(latest=2))
    put(2, 2)
    break_it(put(3))
    store.poll()
    assert answer(store) == (2, 2.0)
    assert states(store) == {3: "END", 2: "AVAILABLE", 1: "UNLOADING"}


def cut_data(folder):
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:2])


@pytest.mark.parametrize(
    "harm, code",
    [
        (lambda folder: (folder / "saved_model.pb").unlink(), "NOT_FOUND"),
        (break_it, "NOT_FOUND"),
        (lambda folder: shutil.rmtree(folder / "variables"), "UNKNOWN"),
        (cut_data, "OUT_OF_RANGE"),
    ],
    ids=["no pb", "half pb", "no variables", "half variables"],
)
def test_a_broken_version_takes_nothing_down_and_is_tried_again_when_complete(
    base, put, open_store, tmp_path, harm, code
):
    put(1, 1)
    store = open_store()
    put(2, 2)
    shutil.copytree(base / "2", tmp_path / "whole")
    harm(base / "2")
    store.poll()
    assert answer(store) == (1, 1.0)
    (failed,) = store.status("hp", 2)
    assert (failed.state, failed.error_code) == ("END", code)
    assert failed.error_message and str(tmp_path) not in failed.error_message
    store.poll()
    assert store.status("hp", 2) == [failed]
    shutil.copytree(tmp_path / "whole", base / "2", dirs_exist_ok=True)
    store.poll()
    assert answer(store) == (2, 2.0)
    assert store.status("hp", 2) == [VersionStatus(2, "AVAILABLE")]


def test_a_failing_warm_up_request_takes_nothing_down(put, open_store, tmp_path):
    put(1, 1)
    store = open_store()
    file = put(2, 2) / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    file.write_bytes(b"no record, but long enough for one")
    store.poll()
    assert answer(store) == (1, 1.0)
    (failed,) = store.status("hp", 2)
    assert (failed.state, failed.error_code) == ("END", "DATA_LOSS")
    assert "TFRecord" in failed.error_message and str(tmp_path) not in failed.error_message


def test_a_file_that_vanishes_while_we_look_is_a_failure_like_others(put, open_store, monkeypatch):
    from keras_dl.serving.server import store as module

    put(1, 1)
    store = open_store()
    folder = put(2, 2)
    monkeypatch.setattr(module, "check_links", lambda *_: shutil.rmtree(folder))
    store.poll()
    assert answer(store) == (1, 1.0)
    assert states(store) == {2: "END", 1: "AVAILABLE"}
    store.poll()
    assert answer(store) == (1, 1.0)


def test_an_unchanged_broken_version_is_tried_only_after_a_while(base, caplog):
    (base / "1").mkdir()
    config = ModelConfig("hp", base)
    patient, eager = ModelStore([config]), ModelStore([config], retry_seconds=0.0)
    for store, attempts in ((patient, 1), (eager, 3)):
        caplog.clear()
        for _ in range(3):
            store.poll()
        assert len(caplog.records) == attempts
        assert store.unavailable() == ["hp"]


@pytest.mark.parametrize("inside", ["", "saved_model.pb", "variables"])
def test_a_link_out_of_the_folder_is_refused_and_says_no_target(base, put, open_store, tmp_path, inside):
    put(1, 1)
    store = open_store()
    outside = put("elsewhere", 2, to=tmp_path)
    if inside:
        os.rename(put("new", 2) / inside, tmp_path / "moved")
        (base / "new" / inside).symlink_to(tmp_path / "moved")
        os.rename(base / "new", base / "2")
    else:
        (base / "2").symlink_to(outside)
    store.poll()
    told = "a link in it, or to it, leads out of its base path"
    assert store.status("hp", 2) == [VersionStatus(2, "END", "PERMISSION_DENIED", told)]
    assert answer(store) == (1, 1.0)
    if inside:
        shutil.rmtree(base / "2")
    else:
        (base / "2").unlink()
    put(2, 2)
    store.poll()
    assert answer(store) == (2, 2.0)


def test_links_that_stay_inside_are_followed_as_kubernetes_turns_them(base, put, open_store):
    for folder, offset in (("..first", 1), ("..second", 2)):
        (base / folder).mkdir()
        put("7", offset, to=base / folder)
    (base / "..data").symlink_to("..first")
    (base / "1").symlink_to("..data/7")
    store = open_store()
    assert answer(store) == (1, 1.0)
    (base / "..new").symlink_to("..second")
    os.rename(base / "..new", base / "..data")
    (base / "2").symlink_to("..data/7")
    store.poll()
    assert answer(store) == (2, 2.0)


def test_a_graph_that_reaches_out_of_itself_is_served_only_on_ones_own_choice(model_folders):
    config = ModelConfig("reader", model_folders["reader"])
    store = ModelStore([config])
    store.poll()
    (status,) = store.status("reader")
    assert (status.state, status.error_code) == ("END", "PERMISSION_DENIED")
    assert "ReadFile" in status.error_message
    store = ModelStore([config], allow_unsafe=True)
    store.poll()
    assert store.unavailable() == []


def test_an_unreachable_folder_unloads_nothing_and_an_empty_one_does(base, put, open_store):
    put(1, 1)
    store = open_store()
    os.rename(base, base.with_name("elsewhere"))
    store.poll()
    assert answer(store) == (1, 1.0)
    base.mkdir()
    store.poll()
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
