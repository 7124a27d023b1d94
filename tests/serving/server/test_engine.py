"""One loaded version: answers, errors, deadlines, warm-up, and rejected graphs."""

import contextlib
import gc
import json
import os
import shutil
import threading
import time
import weakref

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.export.manifest import MANIFEST
from keras_dl.serving.export.warmup import WARMUP, prediction_log
from keras_dl.serving.messages import PredictionLog
from keras_dl.serving.server import engine
from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.sharing import find_sharing

X = {"x": np.array([1.0, 2.0], np.float32)}


@pytest.fixture
def version(tiny_model, tmp_path):
    """A copy of a SavedModel with y = x + 1, which tests may change."""
    return shutil.copytree(tiny_model(1), tmp_path / "1")


@pytest.fixture(scope="module")
def half_plus(model_folders):
    return LoadedModel("hp2", 123, model_folders["hp2"] / "123")


def write(folder, *records):
    (folder / WARMUP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for record in records:
            writer.write(record)


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


def test_errors_of_the_graph_have_one_line_without_node_names(half_plus):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        half_plus.predict("product", {"x": np.ones((2, 4), np.float32)})
    assert caught.value.message == "Matrix size-incompatible: In[0]: [2,4], In[1]: [3,2]"
    with pytest.raises(tf.errors.InvalidArgumentError, match="Type mismatch: actual double vs. expect float"):
        half_plus.predict("serving_default", {"x": np.ones(2)})


def test_internal_errors_contain_no_file_names(model_folders, tmp_path):
    reader = LoadedModel("reader", 1, model_folders["reader"] / "1", allow_unsafe=True)
    with pytest.raises(tf.errors.NotFoundError) as caught:
        reader.predict("serving_default", {"path": np.array(str(tmp_path / "nothing").encode(), object)})
    assert caught.value.message == "the model failed to run; see the server's log"


def test_a_call_past_its_deadline_ends_and_the_model_stays_usable(half_plus):
    with pytest.MonkeyPatch.context() as patch:  # only for the callable of "spin", which is created here
        patch.setattr(half_plus, "_timeout_seconds", 0.1)
        with pytest.raises(tf.errors.DeadlineExceededError):
            half_plus.predict("spin", {"steps": np.array(2**31 - 1, np.int32)})
    assert half_plus.predict("serving_default", X)["y"].tolist() == [2.5, 3.0]


def test_long_calls_do_not_delay_short_ones(model_folders, tmp_path):
    model = LoadedModel("reader", 1, model_folders["reader"] / "1", allow_unsafe=True)
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("content")

    def read(path):
        return model.predict("serving_default", {"path": np.array(str(path).encode(), object)})["content"]

    def read_pipe():
        with contextlib.suppress(tf.errors.OpError):  # blocks its thread until the pipe has a writer
            read(pipe)

    idle = model._idle_pools.qsize()
    threads = [threading.Thread(target=read_pipe) for _ in range(3)]
    for thread in threads:
        thread.start()
    while model._idle_pools.qsize() > idle - 3:  # until all three run
        time.sleep(0.01)
    for _ in range(20):
        assert read(file).item() == b"content"
    assert all(thread.is_alive() for thread in threads)
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(OSError):  # no reader at the moment
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.01)


def test_calls_beyond_the_number_of_pools_wait_until_the_deadline(half_plus, monkeypatch):
    taken = [half_plus._idle_pools.get() for _ in range(half_plus._idle_pools.qsize())]
    with monkeypatch.context() as patch:
        patch.setattr(half_plus, "_timeout_seconds", 0.1)
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out waiting for notification"):
            half_plus.predict("serving_default", X)
    for pool in taken:
        half_plus._idle_pools.put(pool)
    assert half_plus.predict("serving_default", X)["y"].tolist() == [2.5, 3.0]


def test_calls_from_many_threads_get_their_own_answers(version):
    model, wrong = LoadedModel("m", 1, version), []

    def call(number):
        for _ in range(50):
            if model.predict("serving_default", {"x": np.array([number], np.float32)})["y"] != number + 1:
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ["", "serving_default"])
def test_warm_up_requests_are_replayed_during_the_load(version, name, monkeypatch):
    write(version, *[prediction_log("other", name, {"x": np.array([i], np.float32)}) for i in range(3)])
    calls = []
    run = LoadedModel._run
    monkeypatch.setattr(LoadedModel, "_run", lambda self, *call: calls.append(call) or run(self, *call))
    model = LoadedModel("m", 1, version)
    assert {call[0] for call in calls} == {"serving_default"}
    assert sorted({call[1]["x"].item() for call in calls}) == [0, 1, 2]
    assert model.predict("serving_default", X)["y"].tolist() == [2, 3]


def test_a_warm_up_is_cancelled_by_the_shutdown(version):
    write(version, prediction_log("m", "", X))
    stop = threading.Event()
    assert LoadedModel("m", 1, version, stop=stop)
    stop.set()
    with pytest.raises(tf.errors.CancelledError, match="the server is shutting down"):
        LoadedModel("m", 1, version, stop=stop)


@pytest.mark.parametrize(
    "record, error, message",
    [
        (b"\xff\xff", tf.errors.InvalidArgumentError, "Failed to parse warmup record"),
        (
            prediction_log("m", "nope", X),
            tf.errors.FailedPreconditionError,
            'Serving signature key "nope" not found.',
        ),
        (
            prediction_log("m", "", {"y": X["x"]}),
            tf.errors.InvalidArgumentError,
            "warmup request of signature serving_default: expected the inputs x. Received: y",
        ),
        (
            prediction_log("m", "", {"x": np.array([1.0])}),
            tf.errors.InvalidArgumentError,
            "input x: expected float32 of shape (None,). Received: float64 of shape (1,)",
        ),
    ],
)
def test_a_failing_warm_up_request_fails_the_load(version, record, error, message):
    write(version, prediction_log("m", "", X), record)
    with pytest.raises(error) as caught:
        LoadedModel("m", 1, version)
    assert caught.value.message == message


def test_more_than_a_thousand_warm_up_requests_fail_the_load(version):
    record = prediction_log("m", "", X)
    write(version, *[record] * 1000)
    LoadedModel("m", 1, version)
    write(version, *[record] * 1001)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"exceeds the maximum \(1000\)"):
        LoadedModel("m", 1, version)


def test_a_warm_up_file_that_is_not_a_tfrecord_fails_the_load(version):
    (version / WARMUP).parent.mkdir()
    (version / WARMUP).write_bytes(b"no such thing, but long enough")
    with pytest.raises(tf.errors.DataLossError) as caught:
        LoadedModel("m", 1, version)
    assert "Please verify your warmup data is in TFRecord format." in caught.value.message
    assert str(version) not in caught.value.message


def test_warm_up_requests_other_than_predict_are_skipped_with_a_warning(version, caplog):
    classify_log = b"\x0a\x02\x0a\x00"  # field 1 of PredictionLog, which our messages do not define
    assert not PredictionLog.FromString(classify_log).HasField("predict_log")
    write(version, classify_log, prediction_log("m", "", X))
    LoadedModel("m", 1, version)
    assert "skipped 1 warm-up requests of model m, version 1" in caplog.text


def test_an_invalid_manifest_is_ignored_with_one_warning(version, caplog):
    assert LoadedModel("m", 1, version).manifest == {}
    file = version / MANIFEST
    file.parent.mkdir()
    file.write_text('{"format": 1, "name": "m"}')
    assert LoadedModel("m", 1, version).manifest == {"format": 1, "name": "m"}
    assert not caplog.records
    partial = {"format": 1, "signatures": {"serving_default": {"batching": None}}, "request": 5}
    for content, kept in (
        (b"{", {}), (b"\xff", {}), (b"[1]", {}), (b'{"format": 2}', {}), (b"[" * 10**5, {}),
        (json.dumps(partial).encode(), {"format": 1, "signatures": {}}),
    ):  # fmt: skip
        caplog.clear()
        file.write_bytes(content)
        model = LoadedModel("m", 1, version)
        assert model.manifest == kept
        assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is ignored in part" in caplog.text
    assert find_sharing(model, "serving_default", False) is None
    assert model.predict("serving_default", X)["y"].tolist() == [2, 3]


def test_a_link_that_is_redirected_during_the_load_has_no_effect(version, tiny_model, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(version)

    def redirect(folder, saved):
        link.unlink()
        link.symlink_to(tiny_model(2))

    monkeypatch.setattr("keras_dl.serving.server.engine._check_safe", redirect)
    assert LoadedModel("m", 1, link).predict("serving_default", X)["y"].tolist() == [2, 3]


def test_the_graph_that_was_checked_is_loaded(version, model_folders, monkeypatch):
    check = engine._check_safe

    def replace(folder, saved):
        check(folder, saved)
        shutil.copy(model_folders["reader"] / "1" / "saved_model.pb", folder)

    monkeypatch.setattr(engine, "_check_safe", replace)
    assert LoadedModel("m", 1, version).predict("serving_default", X)["y"].tolist() == [2, 3]


def test_a_graph_that_reads_files_is_loaded_only_with_allow_unsafe(model_folders):
    with pytest.raises(tf.errors.PermissionDeniedError) as caught:
        LoadedModel("reader", 1, model_folders["reader"] / "1")
    assert caught.value.message == "signature 'serving_default': ReadFile reads files on the server"


@pytest.mark.parametrize("operation", ["WriteFile", "PyFunc"])
def test_a_graph_that_writes_files_or_calls_python_is_not_loaded(tmp_path, operation):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def call(path):
        if operation == "PyFunc":
            return {"path": tf.numpy_function(lambda value: value, [path], tf.string)}
        with tf.control_dependencies([tf.io.write_file(path, "")]):
            return {"path": tf.identity(path)}

    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": call})
    with pytest.raises(tf.errors.PermissionDeniedError, match=f"signature 'serving_default': {operation}"):
        LoadedModel("m", 1, tmp_path / "1")


def test_unloaded_models_are_freed_at_once(version):
    write(version, prediction_log("m", "", X))
    left = []
    for _ in range(5):
        model = LoadedModel("m", 1, version)
        model.predict("serving_default", X)
        left += [weakref.ref(model), weakref.ref(model._session), weakref.ref(model._session.graph)]
        del model
        assert left[-3]() is None  # only callers refer to it
    gc.collect()
    assert [reference() for reference in left if reference() is not None] == []
