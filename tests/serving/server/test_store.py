"""The engine and the folder polling, on real SavedModels."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.store import ModelStore


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "saved_models" / "hp"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def put(base, save_model, tmp_path):
    """put(version, offset): a new version, renamed into place; its y is x / 2 + offset."""

    def write(version, offset):
        os.rename(save_model(tmp_path / f"new-{version}", offset=offset), base / str(version))

    return write


def answer(store):
    model = store.get("hp")
    outputs = model.predict("serving_default", {"x": np.array([0.0], np.float32)})
    return model.version, float(outputs["y"][0])


def states(store):
    return {status.version: status.state for status in store.status("hp")}


def test_predict_equals_the_saved_function(model_folders):
    folder = model_folders["sequences"] / "7"
    model = LoadedModel("sequences", 7, folder)
    features = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
    inputs = {"length": np.array([5, 0, 2], np.int64), "features": features}
    ours = model.predict("serving_default", inputs)
    theirs = tf.saved_model.load(str(folder)).signatures["serving_default"](**inputs)
    assert sorted(ours) == sorted(theirs)
    for key, array in ours.items():
        assert array.dtype == theirs[key].numpy().dtype
        np.testing.assert_array_equal(array, theirs[key])


def test_scalar_outputs_are_arrays_and_keep_trailing_zero_bytes(model_folders):
    model = LoadedModel("text", 1, model_folders["text"] / "1")
    joined = model.predict("joined", {"text": np.array([b"a", b"b\0"], object)})["joined"]
    assert joined.shape == () and joined.item() == b"ab\0"


def test_errors_of_a_graph_have_no_path_and_no_node(model_folders, tmp_path):
    model = LoadedModel("hp2", 123, model_folders["hp2"] / "123", timeout_seconds=0.3)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.predict("product", {"x": np.ones((2, 4), np.float32)})
    assert caught.value.message == "Matrix size-incompatible: In[0]: [2,4], In[1]: [3,2]"
    with pytest.raises(tf.errors.DeadlineExceededError):
        model.predict("spin", {"steps": np.array(2**31 - 1, np.int32)})
    assert model.predict("spin", {"steps": np.array(2, np.int32)})["last"] == pytest.approx(np.sin(np.sin(1.0)))


def test_only_whole_numbers_are_versions_and_the_newest_is_served(base, put):
    put(2, 20.0)
    put(10, 100.0)
    shutil.copytree(base / "10", base / "11.tmp")
    shutil.copytree(base / "10", base / "-12")
    shutil.copytree(base / "10", base / "9223372036854775808")
    store = ModelStore([ModelConfig("hp", base)])
    store.poll()
    assert answer(store) == (10, 100.0)
    assert states(store) == {10: "AVAILABLE"}


def test_a_new_version_replaces_the_old_and_running_requests_keep_theirs(base, put):
    put(1, 1.0)
    store = ModelStore([ModelConfig("hp", base)])
    store.poll()
    held = store.get("hp")
    put(2, 2.0)
    store.poll()
    assert answer(store) == (2, 2.0)
    assert states(store) == {2: "AVAILABLE", 1: "UNLOADING"}
    assert held.predict("serving_default", {"x": np.array(0.0, np.float32)})["y"] == 1.0
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Specific\(hp, 1\)"):
        store.get("hp", 1)
    del held
    store.poll()
    assert states(store) == {2: "AVAILABLE", 1: "END"}
    shutil.rmtree(base / "2")  # going back: what was unloaded is loaded again
    store.poll()
    assert answer(store) == (1, 1.0)


def cut_data(folder):
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:2])


@pytest.mark.parametrize(
    "harm, code",
    [
        (lambda folder: (folder / "saved_model.pb").unlink(), "NOT_FOUND"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b"\x08\x01half"), "NOT_FOUND"),
        (lambda folder: shutil.rmtree(folder / "variables"), "UNKNOWN"),
        (cut_data, "OUT_OF_RANGE"),
    ],
    ids=["no pb", "half pb", "no variables", "half variables"],
)
def test_a_broken_version_takes_nothing_down_and_is_tried_again_when_complete(base, put, tmp_path, harm, code):
    put(1, 1.0)
    store = ModelStore([ModelConfig("hp", base)])
    store.poll()
    put(2, 2.0)
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
    assert store.status("hp", 2)[0].error_message == ""


def test_an_unchanged_broken_version_is_tried_only_after_a_while(base, caplog):
    (base / "1").mkdir()
    patient, eager = ModelStore([ModelConfig("hp", base)]), ModelStore([ModelConfig("hp", base)], retry_seconds=0.0)
    for store, attempts in ((patient, 1), (eager, 3)):
        caplog.clear()
        for _ in range(3):
            store.poll()
        assert len(caplog.records) == attempts
        assert store.unavailable() == ["hp"]


def test_an_unreachable_folder_unloads_nothing_and_an_empty_one_does(base, put):
    put(1, 1.0)
    store = ModelStore([ModelConfig("hp", base)])
    store.poll()
    os.rename(base, base.with_name("elsewhere"))
    store.poll()
    assert answer(store) == (1, 1.0)
    base.mkdir()
    store.poll()
    with pytest.raises(tf.errors.NotFoundError, match=r"Servable not found for request: Latest\(hp\)"):
        store.get("hp")
    assert store.unavailable() == ["hp"]


def test_names_are_looked_up_and_never_paths(base, put):
    put(1, 1.0)
    with ModelStore([ModelConfig("other", base.parent / "nothing")]) as store:
        assert store.polled.wait(20)
        for name in ("hp", "../hp", "other/../hp", str(base)):
            with pytest.raises(tf.errors.NotFoundError):
                store.get(name)
            with pytest.raises(tf.errors.NotFoundError, match="Could not find any versions of model"):
                store.status(name)


def test_the_thread_follows_the_folder_and_stops(base, put, eventually):
    with ModelStore([ModelConfig("hp", base)], poll_seconds=0.05) as store:
        assert store.polled.wait(20)
        assert store.unavailable() == ["hp"]
        put(1, 1.0)
        assert eventually(lambda: not store.unavailable())
        put(2, 2.0)
        assert eventually(lambda: answer(store) == (2, 2.0))
        assert eventually(lambda: states(store) == {2: "AVAILABLE", 1: "END"})
    assert store.unavailable() == ["hp"]
    put(3, 3.0)
    assert not store._thread.is_alive()
