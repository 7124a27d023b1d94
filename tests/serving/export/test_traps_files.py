"""Folders without a SavedModel, and SavedModels with missing or truncated files."""

import shutil

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from keras_dl.errors import UserError
from keras_dl.serving.export.traps import find_traps, read_graph
from keras_dl.serving.export.warmup import WARMUP
from keras_dl.serving.server.engine import LoadedModel


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    module = tf.Module()
    module.weight = tf.Variable(tf.ones([1000]))
    module.y = tf.function(lambda x: {"y": x * module.weight}, input_signature=[tf.TensorSpec([None, 1000], name="x")])
    folder = tmp_path_factory.mktemp("plain") / "1"
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.y})
    (folder / WARMUP).parent.mkdir()
    (folder / WARMUP).touch()
    return folder


@pytest.fixture
def copy(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "copy")


def found(folder):
    return [(trap.level, trap.where) for trap in find_traps(folder)]


def truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_complete_model(plain):
    assert found(plain) == []


def test_no_saved_model(tmp_path, plain):
    with pytest.raises(UserError, match=r"no SavedModel in .*: expected the folder of a version, with saved_model.pb$"):
        find_traps(tmp_path)
    with pytest.raises(UserError, match=r"no SavedModel in .* Subfolders with a SavedModel: 1$"):
        find_traps(plain.parent)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_graph(copy, share):
    truncate(copy / "saved_model.pb", share)
    with pytest.raises(UserError, match="saved_model.pb is corrupt|has no graph whose only tag is 'serve'"):
        find_traps(copy)


def test_a_corrupt_graph(copy):
    (copy / "saved_model.pb").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(UserError, match="saved_model.pb is corrupt"):
        find_traps(copy)


def test_a_graph_that_is_not_for_serving(copy):
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(UserError, match="has no graph whose only tag is 'serve'. Received: train"):
        find_traps(copy)


@pytest.mark.parametrize("tags", [["serve"], ["serve", "serve"]])
def test_several_graphs_with_the_same_tags_are_unsafe(copy, tags):
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])
    saved.meta_graphs[0].meta_info_def.tags[:] = tags
    saved.meta_graphs.add().meta_info_def.tags[:] = ["serve", "gpu"]
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    what = "it has 2 graphs tagged 'serve', and loaders run only one"
    assert [(trap.level, trap.what) for trap in find_traps(copy)] == [("unsafe", what)]
    with pytest.raises(tf.errors.PermissionDeniedError, match=what):
        LoadedModel("m", 1, copy)


def test_several_files_of_one_graph_are_unsafe(copy):
    (copy / "saved_model.cpb").write_bytes(b"")
    assert [trap.what for trap in find_traps(copy)] == ["loaders choose between saved_model.pb and saved_model.cpb"]


def test_a_graph_in_text_format(copy):
    graph = read_graph(copy)
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    (copy / "saved_model.pb").unlink()
    (copy / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
    assert read_graph(copy) == graph
    assert found(copy) == []
    truncate(copy / "saved_model.pbtxt", 0.5)
    with pytest.raises(UserError, match="saved_model.pbtxt is corrupt"):
        find_traps(copy)


@pytest.mark.parametrize(
    ("name", "share", "where"),
    [
        ("variables.index", 0.0, "variables/variables.index"),
        ("variables.index", 0.5, "variables/variables.index"),
        ("variables.data-00000-of-00001", 0.0, "variables/"),
        ("variables.data-00000-of-00001", 0.9, "variables/"),
    ],
)
def test_truncated_weights(copy, name, share, where):
    truncate(copy / "variables" / name, share)
    assert found(copy) == [("error", where)]


@pytest.mark.parametrize(
    ("name", "where"), [("variables.index", "variables/"), ("variables.data-00000-of-00001", "variables/")]
)
def test_missing_weights(copy, name, where):
    (copy / "variables" / name).unlink()
    assert found(copy) == [("error", where)]


def test_no_warm_up_requests(copy):
    (copy / WARMUP).unlink()
    assert found(copy) == [("warning", str(WARMUP))]
