"""Checks of SavedModels: the report, and the decision whether a model can be served."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.serving.export.check import check
from keras_dl.serving.export.clean import ModelFailed
from keras_dl.serving.export.export import export
from keras_dl.serving.export.manifest import MANIFEST

from .parts import level, level_model

REQUEST = {"signal": np.random.default_rng(0).normal(size=(1, 6, 2)).astype("float32")}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(level(), level_model(), tmp_path_factory.mktemp("saved_models"), 3, REQUEST)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


@pytest.fixture
def checked(capsys):
    """checked(folder, ...): the result of `check` and the printed lines."""

    def run(*arguments):
        capsys.readouterr()
        result = check(*arguments)
        return result, capsys.readouterr().out.splitlines()

    return run


def change_manifest(folder, **values):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


def test_an_export_of_keras_dl(exported, checked):
    assert checked(exported) == (True, [
        "loads in a process without keras_dl",
        "signature 'serving_default' answers signal [1, 6, 2], signal [4, 6, 2], signal [3, 6, 2]",
        "signature 'serving_default': the answer for a row does not depend on other rows; trailing zeros on axis 1 of "
        "signal change nothing",
    ])  # fmt: skip


def test_answers_are_compared_with_the_models(exported, checked):
    kernel, bias = (variable.numpy() for variable in tf.saved_model.load(str(exported))._all_variables)
    right = {"level": REQUEST["signal"] @ kernel + bias}
    good, lines = checked(exported, [(REQUEST, right)])
    assert good
    assert "gives the same answers as the Keras model: signal [1, 6, 2]" in lines
    good, lines = checked(exported, [(REQUEST, {"level": right["level"] + 1})])
    assert not good
    assert lines[-1].startswith("error: signature 'serving_default': the answers of the export differ from the model's")


def test_answers_are_compared_without_an_example_in_the_manifest(copy, checked):
    shutil.rmtree(copy / MANIFEST.parent)
    good, lines = checked(copy, [(REQUEST, {"level": np.zeros((1, 6, 1), "float32")})])
    assert not good
    assert "the answers of the export differ from the model's: level is " in lines[-1]
    kernel, bias = (variable.numpy() for variable in tf.saved_model.load(str(copy))._all_variables)
    good, lines = checked(copy, [(REQUEST, {"level": REQUEST["signal"] @ kernel + bias})])
    assert good
    assert any(line.startswith("signature 'serving_default' answers signal [1, 6, 2]") for line in lines)


@pytest.mark.parametrize(
    ("request_", "answers", "message"),
    [
        (REQUEST, {"other": np.zeros((1, 6, 1))}, "its outputs are level, expected other"),
        ({"other": REQUEST["signal"]}, {}, "expected the inputs signal. Received: other"),
    ],
)
def test_names_that_differ_from_the_models(exported, checked, request_, answers, message):
    good, lines = checked(exported, [(request_, answers)])
    assert not good
    assert message in lines[-1]


def test_a_foreign_model(save_model, tmp_path, checked):
    folder = save_model(tmp_path / "1", "sequences")
    good, lines = checked(folder)
    assert good
    assert [line.split(":")[0] for line in lines] == [
        "warning", "loads in a process without keras_dl", "skipped"
    ]  # fmt: skip


def test_an_unsafe_model_is_not_run(tmp_path, checked):
    """Its signature would write a file."""
    owned, module = tmp_path / "owned", tf.Module()

    def write(x):
        with tf.control_dependencies([tf.io.write_file(str(owned), "x")]):
            return {"y": x + 1}

    module.write = tf.function(write, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.write})
    good, lines = checked(tmp_path / "1")
    assert not good
    assert lines[0].startswith(
        "unsafe: signature 'serving_default': WriteFile writes files on the server. Leave it out"
    )
    assert lines[-1] == "not run because it is unsafe"
    assert not owned.exists()


def test_a_model_that_cannot_be_loaded(copy, checked):
    index = copy / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-20])
    good, lines = checked(copy)
    assert not good
    assert lines[0].startswith("error: variables/variables.index: it is corrupt or truncated. Export it again")
    assert lines[-1].startswith("error: the SavedModel: it cannot be loaded: ")


def test_no_saved_model(tmp_path):
    with pytest.raises(UserError, match="no SavedModel in "):
        check(tmp_path)


def test_a_manifest_that_contradicts_the_measurement(copy, checked):
    signatures = json.loads((copy / MANIFEST).read_text())["signatures"]
    signatures["serving_default"]["batching"]["padded_axes"] = {}
    change_manifest(copy, signatures=signatures)
    good, lines = checked(copy)
    assert not good
    assert lines[-1].startswith("error: signature 'serving_default': the batching in its manifest does not match")


@pytest.mark.parametrize("batching", ["yes", ["x"], 3])
def test_a_manifest_whose_batching_is_not_an_object(copy, checked, batching):
    signatures = json.loads((copy / MANIFEST).read_text())["signatures"]
    signatures["serving_default"]["batching"] = batching
    change_manifest(copy, signatures=signatures)
    good, lines = checked(copy)
    assert not good
    assert "the batching in its manifest does not match the measurement" in lines[-1]


def test_an_example_that_does_not_match_the_inputs(copy, checked):
    change_manifest(copy, request={"signal": [[[1.0, 2.0, 3.0]]]})
    good, lines = checked(copy)
    assert not good
    assert lines[-1].startswith("error: signature 'serving_default': not measured: the example request does not match")


@pytest.mark.parametrize(
    "request_", [{}, {"signal": []}, {"other": 3}, {"signal": "x"}, None, [1], {"signal": [[1], [1, 2]]}]
)
def test_an_invalid_example(copy, checked, request_):
    change_manifest(copy, request=request_)
    good, lines = checked(copy)
    assert good
    assert lines[-1] == "skipped: there is no example request"


def test_the_folder_is_not_changed(exported, checked):
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in exported.rglob("*")}
    os.utime(exported)
    assert checked(exported)[0]
    assert before == {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in exported.rglob("*")
    }


def test_a_request_that_crashes_the_process(exported, checked, monkeypatch):
    class Crashing:
        def load(self, folder):
            pass

        def answer(self, signature_name, inputs):
            raise ModelFailed("the process ended with status -9")

        def is_running(self):
            return False

    monkeypatch.setattr("keras_dl.serving.export.check.clean_process", lambda: contextlib.nullcontext(Crashing()))
    good, lines = checked(exported)
    assert not good
    assert "the process ended with status -9" in lines[-2]
    assert lines[-1].startswith("error: the SavedModel: a request crashed the process")
