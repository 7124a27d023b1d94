"""An export says where it comes from, and a server minds none of it."""

import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.serving.export import export
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.store import ModelStore

REQUEST = {"": np.ones((1, 5, 2), "float32")}
LINEAGE = {"name": "level", "version": 3, "run_id": "abc", "values": {"rate": 0.1, "cell": "GRU"}, "value": 0.25}


class Level(Pipeline):
    name = "level"


@pytest.fixture(scope="module")
def model():
    signal = keras.Input((None, 2), name="signal")
    return keras.Model(signal, keras.layers.Dense(1, name="level")(keras.layers.GRU(3)(signal)))


@pytest.fixture
def pipeline(tmp_path):
    pipeline = Level()
    pipeline.file = tmp_path / "level.py"
    pipeline.file.write_text("# level\n")
    return pipeline


def test_the_lineage_lies_in_the_export_with_the_pipelines_digest(tmp_path, pipeline, model):
    target = export(pipeline, model, tmp_path, 3, REQUEST, LINEAGE)
    found = json.loads((target / "assets.extra" / "lineage.json").read_text())
    assert found == {**LINEAGE, "pipeline": hashlib.sha256(b"# level\n").hexdigest()}


def test_without_a_lineage_there_is_no_file(tmp_path, pipeline, model):
    target = export(pipeline, model, tmp_path, 3, REQUEST)
    assert not (target / "assets.extra").exists()


def test_tensorflow_and_the_server_take_it_as_ever(tmp_path, pipeline, model):
    target = export(pipeline, model, tmp_path, 3, REQUEST, LINEAGE)
    served = tf.saved_model.load(str(target)).signatures["serving_default"]
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    (answer,) = served(tf.constant(x)).values()
    np.testing.assert_allclose(answer, model(x), rtol=1e-6)
    with ModelStore([ModelConfig("level", target.parent)]) as store:
        assert store.polled.wait(60) and store.get("level").version == 3


def test_a_withdrawn_version_is_not_exported_again(tmp_path, pipeline, model):
    target = export(pipeline, model, tmp_path, 3, REQUEST)
    target.rename(target.parent / ".withdrawn-3")
    with pytest.raises(
        UserError, match="level version 3 is exported, but withdrawn .* keras-dl promote level 3 brings"
    ):
        export(pipeline, model, tmp_path, 3, REQUEST)
    assert [path.name for path in target.parent.iterdir()] == [".withdrawn-3"]
