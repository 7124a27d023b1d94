"""An exported version, its run and its registry entry name each other, and a server minds none of it."""

import hashlib
import json

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.serving.registered import export_registered
from keras_dl.serving.server.models import ModelStore
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking import registry
from keras_dl.tracking.runs import connect, open_run

REQUEST = {"": np.ones((1, 5, 2), "float32")}


class Level(Pipeline):
    name = "level"


@pytest.fixture(scope="module")
def model():
    signal = keras.Input((None, 2), name="signal")
    return keras.Model(signal, keras.layers.Dense(1, name="level")(keras.layers.GRU(3)(signal)))


@pytest.fixture
def pipeline(project):
    """A pipeline with a file, and three registered versions: 1, 3 champions in turn, 2 the challenger."""
    connect(project, "level")
    for value in (0.5, 0.9, 0.25):
        with open_run(project, "train") as run:
            mlflow.log_dict({"rate": 0.1}, "values.json")
            client = mlflow.MlflowClient()
            logged = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
            client.finalize_logged_model(logged.model_id, "READY")
        registry.register(project, "level", logged.model_uri, "error", value, "min", "same")
    pipeline = Level()
    pipeline.file = project.root / "level.py"
    pipeline.file.write_text("# level\n")
    return pipeline


def test_run_version_and_folder_name_each_other(project, pipeline, model):
    target = export_registered(pipeline, model, project, 3, REQUEST)
    version = registry.get_version("level", 3)
    run = mlflow.get_run(version.run_id)
    assert version.tags["exported"] == run.data.tags["exported"] == "saved_models/level/3"
    assert target == project.root / "saved_models/level/3"
    text = (target / "assets.extra" / "lineage.json").read_text()
    assert json.loads(text) == {
        **registry.lineage(version), "pipeline": hashlib.sha256(b"# level\n").hexdigest()
    }  # fmt: skip
    assert project.tracking_uri not in text and str(project.root) not in text


def test_tensorflow_and_the_server_take_it_as_ever(project, pipeline, model):
    target = export_registered(pipeline, model, project, 3, REQUEST)
    served = tf.saved_model.load(str(target)).signatures["serving_default"]
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    (answer,) = served(tf.constant(x)).values()
    np.testing.assert_allclose(answer, model(x), rtol=1e-6)
    with ModelStore({"level": target.parent}) as store:
        assert store.polled.wait(60) and store.get("level").version == 3


def test_the_champion_is_what_a_server_takes(project, pipeline, model):
    export_registered(pipeline, model, project, 3, REQUEST)
    registry.move_champion(project, "level", 2)
    export_registered(pipeline, model, project, 2, REQUEST)
    assert exported_versions(project.saved_models, "level") == [2]
    assert withdrawn_versions(project.saved_models, "level") == [3]
    with pytest.raises(UserError, match="keras-dl promote level 3 brings it back"):
        export_registered(pipeline, model, project, 3, REQUEST)


def test_a_challenger_that_is_asked_for_is_served(project, pipeline, model):
    registry.move_champion(project, "level", 1)
    for version in (1, 2):
        export_registered(pipeline, model, project, version, REQUEST)
    assert exported_versions(project.saved_models, "level") == [2, 1]


def test_a_version_that_is_not_registered_is_not_exported(project, pipeline, model):
    with pytest.raises(UserError, match="level has no version 9"):
        export_registered(pipeline, model, project, 9, REQUEST)
    assert not (project.saved_models / "level").exists()
