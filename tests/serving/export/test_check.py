"""A SavedModel is looked at and tried: what is said of it, and whether it can be served."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.check import check
from keras_dl.serving.export.export import export
from keras_dl.serving.export.manifest import MANIFEST
from keras_dl.serving.export.measured import measure_signatures

REQUEST = {"signal": np.random.default_rng(0).normal(size=(1, 6, 2)).astype("float32")}


class Level(Pipeline):
    name = "level"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    signal = keras.Input((None, 2), name="signal")
    model = keras.Model(signal, keras.layers.Dense(1, name="level")(signal))
    return export(Level(), model, tmp_path_factory.mktemp("saved_models"), 3, REQUEST)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


@pytest.fixture
def said(capsys):
    """said(folder, ...): whether it can be served, and the lines that were printed."""

    def ask(*arguments):
        capsys.readouterr()
        result = check(*arguments)
        return result, capsys.readouterr().out.splitlines()

    return ask


def change_manifest(folder, **values):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


def test_an_export_of_ours(exported, said):
    assert said(exported) == (True, [
        "loads in a process without keras_dl",
        "signature 'serving_default' answers signal [1, 6, 2], signal [4, 6, 2], signal [3, 6, 2]",
        "signature 'serving_default': a row's answer depends on that row alone; zeros behind axis 1 of signal change "
        "nothing",
    ])  # fmt: skip


def test_what_it_should_have_answered(exported, said):
    kernel, bias = (variable.numpy() for variable in tf.saved_model.load(str(exported))._all_variables)
    right = {"level": REQUEST["signal"] @ kernel + bias}
    good, lines = said(exported, [(REQUEST, right)])
    assert good
    assert "answers as the Keras model does: signal [1, 6, 2]" in lines
    good, lines = said(exported, [(REQUEST, {"level": right["level"] + 1})])
    assert not good
    assert lines[-1].startswith("error: signature 'serving_default': the export answers otherwise than the model")


def test_it_is_compared_without_an_example_of_its_own(copy, said):
    shutil.rmtree(copy / MANIFEST.parent)
    good, lines = said(copy, [(REQUEST, {"level": np.zeros((1, 6, 1), "float32")})])
    assert not good
    assert "the export answers otherwise than the model: level is " in lines[-1]
    kernel, bias = (variable.numpy() for variable in tf.saved_model.load(str(copy))._all_variables)
    good, lines = said(copy, [(REQUEST, {"level": REQUEST["signal"] @ kernel + bias})])
    assert good
    assert any(line.startswith("signature 'serving_default' answers signal [1, 6, 2]") for line in lines)


@pytest.mark.parametrize(
    ("request_", "answers", "words"),
    [
        (REQUEST, {"other": np.zeros((1, 6, 1))}, "its outputs are level, expected other"),
        ({"other": REQUEST["signal"]}, {}, "its inputs are signal. Received: other"),
    ],
)
def test_it_has_other_names(exported, said, request_, answers, words):
    good, lines = said(exported, [(request_, answers)])
    assert not good
    assert words in lines[-1]


def test_a_foreign_model(save_model, tmp_path, said):
    folder = save_model(tmp_path / "1", "sequences")
    good, lines = said(folder)
    assert good
    assert [line.split(":")[0] for line in lines] == [
        "warning", "loads in a process without keras_dl", "not asked anything"
    ]  # fmt: skip


def test_an_unsafe_model_is_not_run(tmp_path, said):
    """Its loading would write a file, and its signature another."""
    owned, module = tmp_path / "owned", tf.Module()

    def write(x):
        with tf.control_dependencies([tf.io.write_file(str(owned), "x")]):
            return {"y": x + 1}

    module.write = tf.function(write, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.write})
    good, lines = said(tmp_path / "1")
    assert not good
    assert lines[0].startswith(
        "unsafe: signature 'serving_default': WriteFile writes files on the server. Leave it out"
    )
    assert lines[-1] == "not run, because it is unsafe"
    assert not owned.exists()


def test_a_model_that_cannot_be_loaded(copy, said):
    index = copy / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-20])
    good, lines = said(copy)
    assert not good
    assert lines[0].startswith("error: variables/variables.index: it is broken or cut off. Export it again")
    assert lines[-1].startswith("error: the SavedModel: it cannot be loaded: ")


def test_no_saved_model(tmp_path):
    with pytest.raises(UserError, match="no SavedModel in "):
        check(tmp_path)


def test_a_manifest_that_says_what_is_not_so(copy, said):
    signatures = json.loads((copy / MANIFEST).read_text())["signatures"]
    signatures["serving_default"]["batching"]["padded_axes"] = {}
    change_manifest(copy, signatures=signatures)
    good, lines = said(copy)
    assert not good
    assert lines[-1].startswith("error: signature 'serving_default': its manifest says otherwise of running requests")


@pytest.mark.parametrize("batching", ["yes", ["x"], 3])
def test_a_manifest_whose_batching_is_no_object(copy, said, batching):
    signatures = json.loads((copy / MANIFEST).read_text())["signatures"]
    signatures["serving_default"]["batching"] = batching
    change_manifest(copy, signatures=signatures)
    good, lines = said(copy)
    assert not good
    assert "its manifest says otherwise of running requests together" in lines[-1]


def test_an_example_that_it_does_not_answer(copy, said):
    change_manifest(copy, request={"signal": [[[1.0, 2.0, 3.0]]]})
    good, lines = said(copy)
    assert not good
    assert lines[-1].startswith("error: signature 'serving_default': not measured: the example request is of other")


@pytest.mark.parametrize(
    "request_", [{}, {"signal": []}, {"other": 3}, {"signal": "x"}, None, [1], {"signal": [[1], [1, 2]]}]
)
def test_an_example_that_is_none(copy, said, request_):
    change_manifest(copy, request=request_)
    good, lines = said(copy)
    assert good
    assert lines[-1] == "not asked anything: it has no example request"


def test_it_leaves_the_folder_as_it_is(exported, said):
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in exported.rglob("*")}
    os.utime(exported)
    assert said(exported)[0]
    assert before == {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in exported.rglob("*")
    }


def test_a_request_that_ends_its_process(exported, said, monkeypatch):
    """Last, for the next process takes seconds to begin."""

    def measured_once_it_died(process, *arguments):
        process._process.kill()
        return measure_signatures(process, *arguments)

    monkeypatch.setattr("keras_dl.serving.export.check.measure_signatures", measured_once_it_died)
    good, lines = said(exported)
    assert not good
    assert "not measured" in lines[-2] or "ended with status -9" in lines[-2]
    assert lines[-1].startswith("error: the SavedModel: a request to it ended the process that ran it")
