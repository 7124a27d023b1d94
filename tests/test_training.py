"""One training: its best epoch is published, and every version can be evaluated and exported later."""

import json
import math
import shutil
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import training
from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.tracking import registry
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings
from keras_dl.training import evaluate, export_version, learning_curves, train

# One weight w, the loss (w - 1)^2, one step of gradient descent an epoch: each one multiplies w - 1 by 1 - 2 rate.
# From w = 0, rate 1.2 gives 1 + 1.4, 1 - 1.96, 1 + 2.744: the first epoch is the best. Test inputs are twice as large.
PIPELINE = '''"""A line."""

import keras
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


def line(x):
    return tf.data.Dataset.from_tensor_slices(([[x]] * 8, [[x]] * 8))


class Line(Pipeline):
    epochs = 3

    def data(self, hp):
        test = float(self.source or 2)
        return batches(Splits(line(1.0), line(1.0), line(test)), batch_size=hp.Choice("batch_size", [8, 16], default=8))

    def build(self, hp):
        x = keras.Input((1,), name="x")
        model = keras.Model(x, keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="y")(x))
        model.compile(keras.optimizers.SGD(hp.Float("rate", 0.1, 2.0, default=1.2)), "mse", jit_compile=False)
        return model

    def report(self, model, splits):
        return {"weight": float(model.get_layer("y").kernel[0, 0])}

    def pictures(self, model, splits):
        return {"words": "w is all there is"}
'''


def write_pipeline(root):
    file = root / "pipelines" / "line.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(PIPELINE)
    return load_pipeline(file)


@pytest.fixture
def line(project):
    return write_pipeline(project.root)


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory, empty_store):
    """The settings of a project with a champion, a challenger, and a better champion."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_store, root / "mlflow.db")
    settings = Settings(system_metrics={"enabled": False}, root=root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        pipeline = write_pipeline(root)
        found = [train(pipeline, {"rate": rate}, settings) for rate in (1.2, 1.4, 0.25)]
    return settings, found


@pytest.fixture
def trained(three_versions, monkeypatch):
    settings, _ = three_versions
    monkeypatch.chdir(settings.root)
    connect(settings, "line")
    return settings, load_pipeline(settings.root / "pipelines" / "line.py")


def run_of(version):
    return mlflow.get_run(registry.get_version("line", version).run_id)


def weight(version):
    model = mlflow.keras.load_model(f"models:/line/{version}")
    return float(model.get_layer("y").kernel[0, 0])


def test_the_best_epoch_is_kept_and_not_the_last(trained):
    assert weight(1) == pytest.approx(1 + 1.4)
    curve = mlflow.MlflowClient().get_metric_history(run_of(1).info.run_id, "val_loss")
    assert [point.value for point in curve] == pytest.approx([1.4**2, 1.4**4, 1.4**6], rel=1e-4)
    assert weight(3) == pytest.approx(1 - 0.5**3)  # there the last is the best


def test_a_training_is_a_run_with_everything_in_it(trained):
    run = run_of(1)
    assert (run.info.run_name, run.info.status) == ("train", "FINISHED")
    assert run.data.params == {"batch_size": "8", "rate": "1.2", "epochs": "3"}
    assert run.data.metrics["test_loss"] == pytest.approx(4 * 1.4**2)
    assert run.data.metrics["test_weight"] == pytest.approx(2.4)
    tags = run.data.tags
    assert (tags["kind"], tags["pipeline"], tags["model_version"], tags["alias"]) == ("train", "line", "1", "champion")
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert names == {"pipeline", "environment.json", "values.json", "learning_curve.png", "words.txt"}
    values = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/values.json"))
    assert values == {"batch_size": 8, "rate": 1.2}


def test_versions_get_their_aliases(three_versions):
    _, found = three_versions
    assert [(version.version, version.alias) for version in found] == [
        (1, "champion"), (2, "challenger"), (3, "champion")
    ]  # fmt: skip
    assert found[2].why == "loss 0.0625 beats 7.84"


def test_champions_are_exported_and_a_challenger_is_not(trained):
    settings, _ = trained
    folder = settings.saved_models / "line"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "3"]
    for version in (1, 3):
        served = tf.saved_model.load(str(folder / str(version))).signatures["serving_default"]
        np.testing.assert_allclose(served(x=tf.constant([[3.0]]))["y"], [[3 * weight(version)]], rtol=1e-6)


def test_what_is_printed_tells_what_to_do_next(project, line, capsys):
    train(line, {"rate": 1.2}, project)
    output = capsys.readouterr().out
    assert "loss 7.84" in output and "weight 2.4" in output
    assert "model  line version 1, champion: the first version" in output
    assert f"export {project.saved_models}/line/1" in output
    assert "keras-dl predict line --example 0" in output
    train(line, {"rate": 1.4}, project)
    output = capsys.readouterr().out
    assert "version 2, challenger: loss 12.96 does not beat the champion's 7.84" in output
    assert "export no, " in output and "keras-dl export pipelines/line.py --model 2" in output


@pytest.mark.parametrize(
    "which, split, what, loss",
    [
        ("champion", "test", "line version 3", 4 * 0.125**2),
        ("champion", "validation", "line version 3", 0.125**2),
        ("challenger", "train", "line version 2", 1.8**2),
        ("1", "test", "line version 1", 4 * 1.4**2),
    ],
)
def test_evaluate_a_version_on_a_split(trained, capsys, which, split, what, loss):
    settings, pipeline = trained
    results = evaluate(pipeline, which, split, {}, settings)
    assert results["loss"] == pytest.approx(loss, rel=1e-4)
    assert capsys.readouterr().out.strip() == f"{what} on {split}: loss {loss:.4g}"


def test_evaluate_a_file(trained, tmp_path):
    settings, pipeline = trained
    file = tmp_path / "mine.keras"
    mlflow.keras.load_model("models:/line/1").save(file)
    assert evaluate(pipeline, str(file), "validation", {}, settings)["loss"] == pytest.approx(1.4**2)
    # A file knows no data of its own: those of the pipeline count.
    pipeline.source = "3"
    assert evaluate(pipeline, str(file), "test", {"batch_size": 16}, settings)["loss"] == pytest.approx(9 * 1.4**2)
    with pytest.raises(UserError, match="unknown: size"):
        evaluate(pipeline, str(file), "test", {"size": 16}, settings)


@pytest.mark.parametrize("value, message", [({"size": 16}, "unknown: size"), ({"batch_size": 3}, "one of 8, 16")])
def test_evaluate_and_export_refuse_wrong_values(trained, value, message):
    settings, pipeline = trained
    for act in (
        lambda: evaluate(pipeline, "1", "test", value, settings),
        lambda: export_version(pipeline, "2", value, settings),
    ):
        with pytest.raises(UserError, match=message):
            act()
    assert evaluate(pipeline, "1", "validation", {"batch_size": 16}, settings)["loss"] == pytest.approx(1.4**2)


def test_evaluate_takes_the_data_of_the_training_unless_others_are_given(project, line):
    line.source = "3"
    train(line, {}, project)
    again = load_pipeline(line.file)
    assert evaluate(again, "champion", "test", {}, project)["loss"] == pytest.approx(9 * 1.4**2)
    other = load_pipeline(line.file)
    other.source = "5"
    assert evaluate(other, "champion", "test", {}, project)["loss"] == pytest.approx(25 * 1.4**2)


@pytest.mark.parametrize(
    "which, message",
    [
        ("7", r"line has no version '7' in the registry\. There is: 3 champion, 2 challenger, 1"),
        ("winner", r"line has no version 'winner' in the registry"),
        ("nowhere.keras", r"no model file nowhere\.keras"),
    ],
)
def test_a_missing_model_is_told(trained, which, message):
    settings, pipeline = trained
    with pytest.raises(UserError, match=message):
        evaluate(pipeline, which, "test", {}, settings)


def test_a_file_that_is_no_model_is_told(trained, tmp_path):
    settings, pipeline = trained
    file = tmp_path / "text.keras"
    file.write_text("no archive")
    with pytest.raises(UserError, match=r"text\.keras is no \.keras model that can be loaded: "):
        evaluate(pipeline, str(file), "test", {}, settings)


def test_before_any_training_there_is_nothing(project, line):
    for act in (
        lambda: evaluate(line, "champion", "test", {}, project),
        lambda: export_version(line, "1", {}, project),
    ):
        with pytest.raises(UserError, match=r"line has no version .*keras-dl tune pipelines/line\.py"):
            act()


def test_export_of_a_challenger_and_never_over_a_version(trained, capsys):
    settings, pipeline = trained
    target = settings.saved_models / "line" / "2"
    try:
        assert export_version(pipeline, "challenger", {}, settings) == target
        assert capsys.readouterr().out.strip() == f"exported line version 2 to {target}"
        served = tf.saved_model.load(str(target)).signatures["serving_default"]
        np.testing.assert_allclose(served(x=tf.constant([[1.0]]))["y"], [[2.8]], rtol=1e-6)
        before = sorted(path.stat().st_mtime_ns for path in target.rglob("*"))
        with pytest.raises(UserError, match="line/2 is there already"):
            export_version(pipeline, "2", {}, settings)
        assert sorted(path.stat().st_mtime_ns for path in target.rglob("*")) == before
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_a_deleted_export_comes_back(trained):
    settings, pipeline = trained
    target = settings.saved_models / "line" / "3"
    shutil.rmtree(target)
    assert export_version(pipeline, "champion", {}, settings) == target and (target / "saved_model.pb").is_file()


def test_a_loss_that_is_no_number_ends_the_training(project, line):
    build = line.build

    def build_nan(hp):
        model = build(hp)
        model.compile("sgd", lambda target, output: keras.ops.mean(output) * math.nan, jit_compile=False)
        return model

    line.build = build_nan
    with pytest.raises(UserError, match="loss is nan in epoch 1"):
        train(line, {}, project)
    (run,) = mlflow.search_runs(experiment_names=["line"], output_format="list")
    assert run.info.status == "FAILED" and "loss is nan" in run.data.tags["error"]
    assert registry.list_models() == [] and not list(project.saved_models.iterdir())


def test_a_missing_objective_ends_the_training(project, line):
    line.objective = "val_accuracy"
    with pytest.raises(UserError, match="the objective 'val_accuracy' is not among the metrics: loss, val_loss"):
        train(line, {}, project)


def test_wrong_values_are_told_before_any_run(project, line):
    with pytest.raises(UserError, match="rate=3 is not possible: expected rate from 0.1 to 2.0"):
        train(line, {"rate": 3}, project)
    assert mlflow.search_runs(experiment_names=["line"], output_format="list") == []


def test_an_empty_split_is_told_before_any_run(project, line):
    data = line.data
    line.data = lambda hp: type(data(hp))(data(hp).train, data(hp).validation.take(0), data(hp).test)
    with pytest.raises(UserError, match="the validation split is empty"):
        train(line, {}, project)
    assert mlflow.search_runs(experiment_names=["line"], output_format="list") == []


def test_the_direction_max_keeps_the_largest(project, line):
    line.direction = "max"
    train(line, {"rate": 1.2}, project)
    assert weight(1) == pytest.approx(1 + 1.4**3)


def test_learning_curves():
    figure = learning_curves({"0": [0.5, 0.25], "1": [1.0]}, "val_loss")
    (axis,) = figure.axes
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines] == [
        ([1, 2], [0.5, 0.25]), ([1], [1.0])
    ]  # fmt: skip
    assert (axis.get_yscale(), axis.get_xlabel(), axis.get_ylabel()) == ("log", "epoch", "val_loss")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["0", "1"]
    figure.canvas.draw()
    (axis,) = learning_curves({"": [0.5, 0.0]}, "val_error").axes
    assert axis.get_yscale() == "linear" and axis.get_legend() is None
    plt.close("all")


def test_no_figure_stays_open(project, line):
    before = plt.get_fignums()
    train(line, {}, project)
    assert plt.get_fignums() == before


def test_paths_are_shown_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert training._shown(tmp_path / "pipelines" / "line.py") == Path("pipelines/line.py")
    assert training._shown(Path("/elsewhere/line.py")) == Path("/elsewhere/line.py")


OWN = '''"""Layers of its own, and inputs with names."""

import keras
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def distance(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


class Own(Pipeline):
    epochs = 1

    def data(self, hp):
        rows = tf.data.Dataset.from_tensor_slices(({"left": [[1.0]] * 4, "right": [[2.0]] * 4}, [[3.0]] * 4))
        return batches(Splits(rows, rows, rows), batch_size=2)

    def build(self, hp):
        left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
        total = keras.layers.Dense(1, name="total")(Twice()(keras.layers.Add()([left, right])))
        model = keras.Model({"left": left, "right": right}, total)
        model.compile("sgd", distance)
        return model
'''


def test_own_layers_and_named_inputs_go_the_whole_way(project, capsys):
    (project.root / "pipelines").mkdir()
    file = project.root / "pipelines" / "own.py"
    file.write_text(OWN)
    version = train(load_pipeline(file), {}, project)
    assert version.alias == "champion"
    loaded = tf.saved_model.load(str(project.saved_models / "own" / "1")).signatures["serving_default"]
    assert set(loaded(left=tf.ones((3, 1)), right=tf.ones((3, 1)))) == {"total"}
    shutil.rmtree(project.saved_models / "own")
    results = evaluate(load_pipeline(file), "1", "test", {}, project)
    assert results["loss"] >= 0
    assert export_version(load_pipeline(file), "champion", {}, project).is_dir()


def test_a_signature_that_cannot_answer_is_told_before_the_training(project, line):
    line.request = lambda example: {"x": np.ones((1, 7), "float32")}
    with pytest.raises(UserError, match="the signature of line cannot answer its own request"):
        train(line, {}, project)
    line.request = lambda example: {"y": np.ones((1, 1), "float32")}
    with pytest.raises(UserError, match=r"request\(example\) must give x. Received: y"):
        train(line, {}, project)
    assert registry.list_models() == []
