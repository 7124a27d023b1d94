"""The manifest of an export: its content, and the parts that are ignored because they do not match the graph."""

import hashlib
import json
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.errors import UserError
from keras_dl.serving.export.export import export
from keras_dl.serving.export.manifest import MANIFEST, check_manifest, from_json, json_value, read_manifest
from keras_dl.serving.server.engine import LoadedModel

from .parts import level, level_model

REQUEST = {"": np.array([[[0.2, -1.0], [3.0, 1e-7]]], "float32")}
ORIGIN = {"name": "level", "version": 3, "run_id": "abc", "values": {"rate": 0.1, "cell": "GRU"}, "value": 0.25}


@pytest.fixture(scope="module")
def model():
    return level_model()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    pipeline = level()
    pipeline.file = tmp_path_factory.mktemp("project") / "level.py"
    pipeline.file.write_text("# level\n")
    return pipeline


@pytest.fixture(scope="module")
def exported(tmp_path_factory, pipeline, model):
    return export(pipeline, model, tmp_path_factory.mktemp("saved_models"), 3, REQUEST, ORIGIN)


def test_content(exported):
    manifest = json.loads((exported / "assets.extra" / "manifest.json").read_text())
    assert manifest == read_manifest(exported)
    assert (manifest["format"], manifest["name"], manifest["version"]) == (1, "level", 3)
    assert manifest["exported"].endswith("+00:00")
    assert manifest["origin"] == {**ORIGIN, "pipeline": hashlib.sha256(b"# level\n").hexdigest()}
    (name, signature), = manifest["signatures"].items()  # fmt: skip
    assert name == "serving_default"
    assert signature["inputs"] == {"signal": {"dtype": "float32", "shape": [None, None, 2]}}
    assert signature["outputs"] == {"level": {"dtype": "float32", "shape": [None, None, 1]}}


def test_a_layer_applied_to_each_step_may_be_padded_and_its_output_cropped(exported):
    batching = read_manifest(exported)["signatures"]["serving_default"]["batching"]
    assert batching == {
        "rows_independent": True, "padded_axes": {"signal": [1]}, "cropped_axes": {"level": 1}, "why": ""
    }  # fmt: skip


def test_the_example_is_a_valid_request(exported, model):
    request = read_manifest(exported)["request"]
    assert request == {"signal": [[[0.2, -1.0], [3.0, 1e-7]]]}
    served = LoadedModel("level", 3, exported)
    (answer,) = served.predict("serving_default", {"signal": np.array(request["signal"], "float32")}).values()
    np.testing.assert_allclose(answer, model(REQUEST[""]), rtol=1e-5)
    assert served.manifest == read_manifest(exported)


def test_the_git_commit_is_recorded(exported, tmp_path, model):
    assert read_manifest(exported)["git_commit"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    pipeline = level()
    pipeline.file = tmp_path / "level.py"
    pipeline.file.touch()
    for arguments in (["init", "-q"], ["add", "level.py"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    target = export(pipeline, model, tmp_path / "saved_models", 1, REQUEST)
    manifest = read_manifest(target)
    assert (manifest["git_commit"], manifest["origin"]) == (head, {})


def test_a_withdrawn_version_is_not_exported_again(tmp_path, pipeline, model):
    (tmp_path / "level" / ".withdrawn-3").mkdir(parents=True)
    with pytest.raises(
        UserError, match="version 3 is already exported, but withdrawn .* with keras-dl promote level 3"
    ):
        export(pipeline, model, tmp_path, 3, REQUEST)
    assert [path.name for path in (tmp_path / "level").iterdir()] == [".withdrawn-3"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", '{"format": 2}', "[" * 100_000, b"\xff"])
def test_a_foreign_or_invalid_manifest_is_empty(tmp_path, text):
    (tmp_path / "assets.extra").mkdir()
    if text is not None:
        (tmp_path / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_manifest(tmp_path) == {}


@pytest.mark.parametrize(
    ("array", "dtype", "value"),
    [
        (np.array([[0.2, 3.0]], "float32"), "float32", [[0.2, 3.0]]),
        (np.array(7, "int64"), "int64", 7),
        (np.array([True, False]), "bool", [True, False]),
        (np.array([b"h\xc3\xa4", b"\xff\x00"], object), "string", ["hä", {"b64": "/wA="}]),
        (np.array([[b"a"], [b"b"]], object), "string", [["a"], ["b"]]),
        (np.zeros((0, 3), "float32"), "float32", []),
    ],
)
def test_values_survive_a_round_trip_through_json(array, dtype, value):
    assert json_value(array) == value
    again = from_json(json.loads(json.dumps(value)), dtype)
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array.reshape(again.shape))


def test_a_scalar_string():
    one = from_json("ä", "string")
    assert (one.shape, one.item(), tf.constant(one).dtype) == ((), "ä".encode(), tf.string)
    assert json_value(one) == "ä"


def test_an_example_that_is_too_large_is_omitted(tmp_path, model, monkeypatch):
    monkeypatch.setattr("keras_dl.serving.export.manifest._LARGEST_REQUEST", 1000)
    example = {"": np.random.default_rng(0).normal(size=(1, 60, 2)).astype("float32")}
    assert read_manifest(export(level(), model, tmp_path, 1, example))["request"] == {}


BATCHING = {"rows_independent": True, "padded_axes": {"features": [1]}, "cropped_axes": {}, "why": ""}


def with_batching(batching):
    return {"format": 1, "signatures": {"serving_default": {"batching": batching}}}


def tensor(dtype, shape):
    return meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto())


SIGNATURES = {
    "serving_default": meta_graph_pb2.SignatureDef(
        inputs={"features": tensor(tf.float32, [None, None, 2]), "length": tensor(tf.int64, [None])},
        outputs={"total": tensor(tf.float32, [None, 2])},
    )
}


def test_a_valid_manifest_is_unchanged():
    manifest = with_batching(BATCHING) | {"request": {"features": [], "length": []}, "origin": {}, "git_commit": None}
    manifest |= {"exported": "2026-01-01", "unknown key": [1]}
    assert check_manifest(manifest, SIGNATURES) == (manifest, [])
    assert check_manifest({}, SIGNATURES) == ({}, [])
    assert check_manifest(with_batching(BATCHING | {"cropped_axes": {"total": 1}}), SIGNATURES)[1] == []


@pytest.mark.parametrize(
    "manifest",
    [
        {"signatures": []},
        {"signatures": None},
        {"signatures": {"serving_default": []}},
        {"signatures": {"other": {"batching": BATCHING}}},
        {"request": [1]},
        {"request": {"features": []}},
        {"request": {"features": [], "lengths": []}},
        {"origin": "a run"},
        {"exported": 5},
        {"git_commit": {}},
        with_batching(None),
        with_batching([]),
        with_batching(BATCHING | {"rows_independent": "no"}),
        with_batching(BATCHING | {"rows_independent": 1}),
        with_batching(BATCHING | {"padded_axes": [1]}),
        with_batching(BATCHING | {"padded_axes": None}),
        with_batching(BATCHING | {"padded_axes": {"features": 1}}),
        with_batching(BATCHING | {"padded_axes": {"features": ["1"]}}),
        with_batching(BATCHING | {"padded_axes": {"features": [True]}}),
        with_batching(BATCHING | {"padded_axes": {"features": [1.0]}}),
        with_batching(BATCHING | {"padded_axes": {"features": [0]}}),
        with_batching(BATCHING | {"padded_axes": {"features": [-1]}}),
        with_batching(BATCHING | {"padded_axes": {"features": [2]}}),
        with_batching(BATCHING | {"padded_axes": {"features": [3]}}),
        with_batching(BATCHING | {"padded_axes": {"length": [1]}}),
        with_batching(BATCHING | {"padded_axes": {"other": [1]}}),
        with_batching(BATCHING | {"cropped_axes": 1}),
        with_batching(BATCHING | {"cropped_axes": {"total": [1]}}),
        with_batching(BATCHING | {"cropped_axes": {"total": "1"}}),
        with_batching(BATCHING | {"cropped_axes": {"total": 0}}),
        with_batching(BATCHING | {"cropped_axes": {"total": 2}}),
        with_batching(BATCHING | {"cropped_axes": {"other": 1}}),
    ],
    ids=json.dumps,
)
def test_an_invalid_part_is_removed(manifest):
    kept, problems = check_manifest(manifest | {"name": "kept"}, SIGNATURES)
    assert len(problems) == 1
    assert kept.pop("name") == "kept" and kept.pop("format", 1) == 1
    assert kept in ({}, {"signatures": {}})
