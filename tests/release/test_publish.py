"""What is done with a best model: evaluated, registered, exported."""

import json
from pathlib import Path

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.release import publish, registry
from keras_dl.release.publish import learning_curves
from keras_dl.serving.versions import exported_versions
from keras_dl.tracking.runs import connect, log_origin, open_run
from keras_dl.training.train import train

from ..line import run_of, weight


def test_the_best_epoch_is_kept_and_not_the_last(trained):
    assert weight(1) == pytest.approx(1 + 1.4)
    curve = mlflow.MlflowClient().get_metric_history(run_of(1).info.run_id, "val_loss")
    assert [point.value for point in curve] == pytest.approx([1.4**2, 1.4**4, 1.4**6], rel=1e-4)
    assert weight(3) == pytest.approx(1 - 0.5**3)  # there the last is the best


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


def test_the_live_configuration_names_the_champion(trained):
    text = (trained[0].saved_models / "models.config").read_text()
    assert 'key: "champion"' in text and "version_labels" in text


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
    assert "exported" not in registry.get_version("line", 2).tags


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
    assert publish._shown(tmp_path / "pipelines" / "line.py") == Path("pipelines/line.py")
    assert publish._shown(Path("/elsewhere/line.py")) == Path("/elsewhere/line.py")


def test_what_was_judged_and_exported_is_known_both_ways(trained):
    settings, _ = trained
    run, version = run_of(3), registry.get_version("line", 3)
    assert run.data.tags["exported"] == version.tags["exported"] == "saved_models/line/3"
    assert run.data.tags["test_fingerprint"] == version.tags["fingerprint"]
    lineage = registry.lineage(version)
    assert (lineage["run_id"], lineage["values"]) == (run.info.run_id, {"batch_size": 8, "rate": 0.25})
    exported = settings.saved_models / "line" / "3" / "assets.extra" / "manifest.json"
    assert lineage.items() <= json.loads(exported.read_text())["origin"].items()


def test_noise_is_no_victory_and_old_exports_go(project, line, capsys):
    """A version that is better by less than the spread of its executions stays a challenger."""
    connect(project, "line")
    versions = []
    for found, spread in ((0.5, None), (0.6, 10.0), (0.75, 0.01), (1.0, 0.01)):
        model = line.build(kt.HyperParameters())
        model.get_layer("y").kernel.assign([[found]])
        with open_run(project, "train", {"kind": "train"}):
            log_origin(line)
            version = publish.publish(line, model, {"batch_size": 8}, project, spread)
            publish.export_champion(line, model, {"batch_size": 8}, version, project, keep=1)
        versions.append((version.version, version.alias))
    assert versions == [(1, "champion"), (2, "challenger"), (3, "champion"), (4, "champion")]
    output = capsys.readouterr().out
    assert "loss 0.64 beats the champion's 1 by no more than noise, 10" in output
    assert "removed the exports of line 3" in output
    assert exported_versions(project.saved_models, "line") == [4]
    assert [row["version"] for row in registry.list_models()] == [4, 3, 2, 1]


def test_an_objective_without_a_metric_on_the_test_split_is_judged_by_its_validation(project, line):
    def add(epoch, logs):
        logs["val_own"] = 3.0 - abs(epoch - 1)

    line.objective, line.direction = "val_own", "max"
    line.callbacks = lambda hp: [keras.callbacks.LambdaCallback(on_epoch_end=add)]
    version = train(line, {"rate": 0.25}, project)
    tags = registry.get_version("line", version.version).tags
    assert (tags["metric"], tags["value"], tags["direction"]) == ("val_own", "3.0", "max")
    assert weight(1) == pytest.approx(1 - 0.5**2)
