"""Versions that fail to load: broken, incomplete, with links that point outside the folder, unsafe. They unload
nothing."""

import os
import shutil

import numpy as np
import pytest

from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.store import ModelStore, VersionStatus


def answer(store):
    model = store.get("hp")
    return model.version, float(model.predict("serving_default", {"x": np.zeros(1, np.float32)})["y"][0])


def states(store):
    return {status.version: status.state for status in store.status("hp")}


def break_it(folder):
    (folder / "saved_model.pb").write_bytes(b"\x08\x01half")


def test_a_broken_version_does_not_affect_others(put, open_store):
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
def test_a_broken_version_unloads_nothing_and_is_retried_when_complete(base, put, open_store, tmp_path, harm, code):
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


def test_a_failing_warm_up_request_unloads_nothing(put, open_store, tmp_path):
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


def test_a_folder_that_disappears_during_the_load_is_a_failure(put, open_store, monkeypatch):
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


def test_an_unchanged_broken_version_is_retried_after_a_while(base, caplog):
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
def test_a_link_outside_the_folder_is_rejected_without_naming_its_target(base, put, open_store, tmp_path, inside):
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
    message = "a link points outside the base path"
    assert store.status("hp", 2) == [VersionStatus(2, "END", "PERMISSION_DENIED", message)]
    assert answer(store) == (1, 1.0)
    if inside:
        shutil.rmtree(base / "2")
    else:
        (base / "2").unlink()
    put(2, 2)
    store.poll()
    assert answer(store) == (2, 2.0)


def test_links_inside_the_folder_may_be_redirected_as_in_kubernetes_volumes(base, put, open_store):
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


def test_an_unsafe_graph_is_served_only_with_allow_unsafe(model_folders):
    config = ModelConfig("reader", model_folders["reader"])
    store = ModelStore([config])
    store.poll()
    (status,) = store.status("reader")
    assert (status.state, status.error_code) == ("END", "PERMISSION_DENIED")
    assert "ReadFile" in status.error_message
    store = ModelStore([config], allow_unsafe=True)
    store.poll()
    assert store.unavailable() == []
