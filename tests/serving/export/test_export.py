"""Exports: layout, comparison with the model, batching, errors, and files left after a failure."""

import contextlib
import io
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.serving.export.check import check
from keras_dl.serving.export.export import BATCHING, export
from keras_dl.serving.export.manifest import read_manifest
from keras_dl.serving.export.traps import find_traps
from keras_dl.serving.messages import BatchingParameters
from keras_dl.serving.server.engine import LoadedModel

from .parts import SIGNAL, level

EXAMPLE = {"": np.array([[0.5, -2.0]], "float32")}


def build(units=3):
    keras.utils.set_random_seed(1)
    signal = keras.Input((None, 2), name="signal")
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(units)(keras.layers.Dense(units, activation="tanh")(signal)))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(signal, keras.layers.Dense(1, name="level")(x))


def signals(batch=2, time=5):
    return np.random.default_rng(time).normal(size=(batch, time, 2)).astype("float32")


REQUEST = {"": signals(1)}


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def exported_and_notes(tmp_path_factory, model):
    """Version 7 of the model, and what its export printed."""
    with contextlib.redirect_stdout(io.StringIO()) as notes:
        target = export(level(), model, tmp_path_factory.mktemp("exported") / "saved_models", 7, REQUEST)
    return target, notes.getvalue()


@pytest.fixture(scope="module")
def exported(exported_and_notes):
    """Version 7 of the model. Read-only."""
    return exported_and_notes[0]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.name[0] == ".")


# ---------------------------------------------------------------------------- successful exports


def test_the_layout_is_that_of_tensorflow_serving(exported):
    assert exported.parts[-3:] == ("saved_models", "level", "7")
    assert (exported / "saved_model.pb").is_file() and (exported / "variables" / "variables.index").is_file()
    assert [path.name for path in exported.parent.iterdir()] == ["7"]
    assert find_traps(exported) == []


@pytest.mark.parametrize("batch, time", [(1, 1), (3, 17)])
def test_the_export_answers_like_the_model_for_any_batch_size_and_length(exported, model, batch, time):
    served = tf.saved_model.load(str(exported)).signatures["serving_default"]
    x = signals(batch, time)
    np.testing.assert_allclose(served(signal=x)["level"], model(x, training=False), rtol=1e-5)


def test_advice_is_printed(exported_and_notes):
    (line,) = exported_and_notes[1].splitlines()
    assert line.startswith(
        "note   serving_default: requests of different lengths are not batched: trailing zeros on axis 1 of signal "
        "change level by up to "
    )
    assert "Mask the raw input (keras.layers.Masking as the first layer)" in line


def test_no_advice_is_printed_for_a_masked_model(tmp_path, capsys):
    signal = keras.Input((None, 2), name="signal")
    x = keras.layers.SimpleRNN(2, bias_initializer="ones", go_backwards=True)(keras.layers.Masking()(signal))
    target = export(level(), keras.Model(signal, x), tmp_path, 1, REQUEST)
    assert capsys.readouterr().out == ""
    batching = read_manifest(target)["signatures"]["serving_default"]["batching"]
    assert (batching["rows_independent"], batching["padded_axes"]) == (True, {"signal": [1]})


def test_several_signatures_keep_their_default(tmp_path, model):
    """The default one is neither first in the dictionary nor first by name."""

    def both(signal):
        return {"level": model(signal, training=False), "positive": model(signal, training=False) > 0}

    def a_mean(signal):
        return {"mean": tf.reduce_mean(signal, axis=1)}

    pipeline = level()
    pipeline.signatures = lambda model: {"a_mean": (a_mean, [SIGNAL]), "serving_default": (both, [SIGNAL])}
    loaded = tf.saved_model.load(str(export(pipeline, model, tmp_path, 1, REQUEST)))
    assert {"serving_default", "a_mean"} <= set(loaded.signatures)
    x = signals(2, 5)
    default, mean = loaded.signatures["serving_default"], loaded.signatures["a_mean"]
    assert set(default(signal=x)) == {"level", "positive"}
    np.testing.assert_allclose(mean(signal=x)["mean"], x.mean(1), rtol=1e-5)
    np.testing.assert_allclose(default(signal=x)["level"], model(x, training=False), rtol=1e-5)


def test_strings_and_tables(tmp_path):
    """The vocabulary is exported with the model."""
    words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["no", "yes"], [0, 1]), -1)
    number = keras.Input((1,), name="number")
    model = keras.Model(number, keras.layers.Rescaling(10.0)(number))
    model.words = words

    def look_up(word):
        found = tf.cast(words.lookup(word), tf.float32)
        return {"number": model(found[:, None])[:, 0], "again": word}

    pipeline = level(look_up, tf.TensorSpec([None], tf.string, name="word"))
    target = export(pipeline, model, tmp_path, 1, {"word": np.array(["yes", "no"], dtype=object)})
    served = tf.saved_model.load(str(target)).signatures["serving_default"]
    answer = served(word=tf.constant(["yes", "perhaps"]))
    assert answer["number"].numpy().tolist() == [10, -10] and answer["again"].numpy().tolist() == [b"yes", b"perhaps"]


def test_several_inputs(tmp_path):
    a, b = keras.Input((None, 1), name="a"), keras.Input((1,), name="b")
    model = keras.Model([a, b], keras.layers.Add(name="sum")([keras.layers.GlobalAveragePooling1D()(a), b]))
    request = {"b": np.ones((1, 1)), "a": np.ones((1, 3, 1))}
    served = tf.saved_model.load(str(export(level(), model, tmp_path, 1, request))).signatures["serving_default"]
    answer = served(a=tf.constant([[[1.0], [3.0]]]), b=tf.constant([[10.0]]))
    assert answer["sum"].numpy().tolist() == [[12.0]]
    with pytest.raises(UserError, match=r"request\(example\) must return a, b\. Received: $"):
        export(level(), model, tmp_path, 2, {"": np.ones((1, 3, 1))})


# ---------------------------------------------------------------------------- errors, which leave no files


def test_a_version_is_never_written_twice(exported):
    target, root = exported, exported.parents[1]
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="level/7 already exists: exported versions are never changed"):
        export(level(), build(4), root, 7, REQUEST)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_without_a_default_signature(tmp_path, model):
    pipeline = level()
    pipeline.signatures = lambda model: {"other": (lambda signal: {"level": model(signal)}, [])}
    with pytest.raises(UserError, match="signatures of level must include 'serving_default'. Received: other"):
        export(pipeline, model, tmp_path, 1, REQUEST)
    assert files_in(tmp_path) == []


def test_a_python_operation_cannot_be_served(tmp_path, model):
    def halved(signal):
        (half,) = tf.numpy_function(lambda x: x / 2, [signal], [tf.float32])
        return {"level": model(tf.reshape(half, tf.shape(signal)))}

    with pytest.raises(UserError, match="signature 'serving_default' cannot be served: (Eager)?PyFunc runs Python"):
        export(level(halved), model, tmp_path, 1, REQUEST)
    assert files_in(tmp_path) == []


def test_a_python_operation_inside_another_function_is_found(tmp_path, model):
    @tf.function
    def half(signal):
        return tf.py_function(lambda x: x / 2, [signal], tf.float32)

    def halved(signal):
        doubled = tf.cond(tf.size(signal) > 0, lambda: half(signal), lambda: signal)
        return {"level": model(tf.reshape(doubled, tf.shape(signal)))}

    with pytest.raises(UserError, match="cannot be served: EagerPyFunc runs Python"):
        export(level(halved), model, tmp_path, 1, REQUEST)


def test_an_export_whose_answers_differ_is_an_error(tmp_path, model):
    """Decisions made in Python during tracing are frozen in the export."""

    def drifting(signal):
        return {"level": model(signal) + (0 if tf.executing_eagerly() else 1)}

    with pytest.raises(UserError, match="the answers of the export differ from the model's: level is"):
        export(level(drifting), model, tmp_path, 1, REQUEST)
    assert files_in(tmp_path) == []


def test_an_export_whose_strings_differ_is_an_error(tmp_path, model):
    def deciding(signal):
        text = "model" if tf.executing_eagerly() else "graph"
        return {"text": tf.fill([tf.shape(signal)[0]], text), "level": model(signal)}

    with pytest.raises(UserError, match="differ from the model's: text is"):
        export(level(deciding), model, tmp_path, 1, REQUEST)


def test_an_export_that_rejects_a_request_of_the_model(tmp_path, model):
    """Only the graph rejects zeros at the end of a row, like a kernel that does not support some shape."""

    def refusing(signal):
        if not tf.executing_eagerly():
            tf.debugging.assert_none_equal(signal[:, -1], 0.0, message="the last step must not be zero")
        return {"level": model(signal)}

    with pytest.raises(
        UserError, match=r"fails on a request that the model answers, {'signal': \[3, 5, 2\]}: .*last step"
    ):
        export(level(refusing), model, tmp_path, 1, REQUEST)
    assert files_in(tmp_path) == []


def test_a_request_without_rows_may_be_refused(tmp_path):
    """Recurrent layers refuse it in a graph."""
    signal = keras.Input((None, 2), name="signal")
    model = keras.Model(signal, keras.layers.SimpleRNN(3)(signal))
    assert export(level(), model, tmp_path, 1, REQUEST).is_dir()


def test_concurrent_exports(tmp_path):
    signal = keras.Input((2,), name="signal")
    model = keras.Model(signal, keras.layers.Dense(1, name="level")(signal))
    outcome = {}

    def run(thread, version):
        try:
            outcome[thread] = export(level(), model, tmp_path, version, {"": np.ones((1, 2))}).name
        except UserError as error:
            outcome[thread] = str(error)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4), (1, 2, 3, 3)))
    assert (outcome[0], outcome[1]) == ("1", "2")
    assert [outcome[2], outcome[3]].count("3") == 1
    assert [("already exists" in outcome[n]) for n in (2, 3)].count(True) == 1
    assert sorted(path.name for path in (tmp_path / "level").iterdir()) == ["1", "2", "3"]
    assert all(find_traps(path) == [] for path in (tmp_path / "level").iterdir())


def test_a_file_instead_of_the_folder(tmp_path, model):
    (tmp_path / "level").touch()
    with pytest.raises(UserError, match="cannot write to .*level: "):
        export(level(), model, tmp_path, 1, REQUEST)
    assert (tmp_path / "level").read_text() == ""


@contextlib.contextmanager
def small_disk(folder, size):
    """Mounts a file system of `size` bytes in the folder; skips the test if that is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if mounted.returncode:
        pytest.skip(f"no mount: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("units, size", [(3, 16), (200, 64)])
def test_a_full_disk_leaves_no_files(tmp_path, units, size):
    """16 KB is too small for the graph, 64 KB for the weights."""
    folder = tmp_path / "disk"
    with small_disk(folder, size * 1024):
        with pytest.raises(UserError, match=r"could not export to .*level/1: .+\. No files were left") as caught:
            export(level(), build(units), folder, 1, REQUEST)
        assert "\n" not in str(caught.value)
        assert files_in(folder) == []
        assert os.statvfs(folder).f_bfree >= os.statvfs(folder).f_blocks - 4  # only empty folders


def test_a_file_size_limit_leaves_no_files(tmp_path, largest_file):
    with largest_file(20_000), pytest.raises(UserError, match=r"could not export to .*level/1: .*No files were left"):
        export(level(), build(100), tmp_path, 1, REQUEST)
    assert files_in(tmp_path) == []
    assert export(level(), build(100), tmp_path, 1, REQUEST).is_dir()


@pytest.fixture(scope="module")
def row_model():
    number = keras.Input((2,), name="number")
    return keras.Model(number, keras.layers.Dense(1, bias_initializer="ones")(number))


def test_rows_of_one_shape_are_batched(tmp_path, row_model, capsys):
    target = export(level(), row_model, tmp_path, 1, EXAMPLE)
    parameters = text_format.Parse((target / "batching_params.pbtxt").read_text(), BatchingParameters())
    assert (parameters.max_batch_size.value, parameters.batch_timeout_micros.value) == (64, 0)
    assert parameters.num_batch_threads.value and parameters.max_enqueued_batches.value
    assert not parameters.pad_variable_length_inputs
    assert check(target) and find_traps(target) == []
    assert LoadedModel("level", 1, target).predict("serving_default", {"number": EXAMPLE[""]})


def test_one_signature_can_prevent_batching(tmp_path, row_model):
    """The rows of the second signature depend on each other."""
    pipeline = level()
    own, spec = pipeline.signatures, tf.TensorSpec([None, 2], tf.float32, name="number")
    centered = {"centered": (lambda x: {"y": x - tf.reduce_mean(x, 0)}, [spec])}
    pipeline.signatures = lambda model: own(model) | centered
    assert not (export(pipeline, row_model, tmp_path, 1, EXAMPLE) / BATCHING).exists()


def test_models_with_variable_lengths_are_not_batched(tmp_path, row_model):
    """TensorFlow Serving fails all requests of a batch with different lengths."""
    signal = keras.Input((None, 2), name="signal")
    sequences = keras.Model(signal, keras.layers.Dense(1)(signal))
    assert not (export(level(), sequences, tmp_path, 1, {"": EXAMPLE[""][None]}) / BATCHING).exists()
