"""Publishing the best model: evaluation, registration and export."""

import json

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.release import publish, registry
from keras_dl.release.publish import retire
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect, log_origin, open_run
from keras_dl.training.train import train

from ..line import run_of, weight


def test_the_weights_of_the_best_epoch_are_published(trained):
    assert weight(1) == pytest.approx(1 + 1.4)
    curve = mlflow.MlflowClient().get_metric_history(run_of(1).info.run_id, "val_loss")
    assert [point.value for point in curve] == pytest.approx([1.4**2, 1.4**4, 1.4**6], rel=1e-4)
    assert weight(3) == pytest.approx(1 - 0.5**3)  # the last epoch is the best


def test_versions_become_champion_or_challenger(three_versions):
    _, found = three_versions
    assert [(version.version, version.alias) for version in found] == [
        (1, "champion"), (2, "challenger"), (3, "champion")
    ]  # fmt: skip
    assert found[2].why == "loss 0.0625 beats 7.84"


def test_only_champions_are_exported(trained):
    settings, _ = trained
    folder = settings.saved_models / "line"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "3"]
    for version in (1, 3):
        served = tf.saved_model.load(str(folder / str(version))).signatures["serving_default"]
        np.testing.assert_allclose(served(x=tf.constant([[3.0]]))["y"], [[3 * weight(version)]], rtol=1e-6)


def test_the_served_configuration_labels_the_champion(trained):
    text = (trained[0].saved_models / "models.config").read_text()
    assert 'key: "champion"' in text and "version_labels" in text


def test_the_output_shows_results_and_next_commands(project, line, capsys):
    figures = plt.get_fignums()
    train(line, {"rate": 1.2}, project)
    assert plt.get_fignums() == figures  # all are closed
    output = capsys.readouterr().out
    assert "loss 7.84" in output and "weight 2.4" in output
    assert "model  line version 1, champion: the first version" in output
    assert f"export {project.saved_models}/line/1" in output
    assert "keras-dl predict line --example 0" in output
    train(line, {"rate": 1.4}, project)
    output = capsys.readouterr().out
    assert "version 2, challenger: loss 12.96 does not beat the champion's 7.84" in output
    assert "export skipped, " in output and "keras-dl export pipelines/line.py --model 2" in output
    assert "exported" not in registry.get_version("line", 2).tags


def test_run_version_and_export_refer_to_each_other(trained):
    settings, _ = trained
    run, version = run_of(3), registry.get_version("line", 3)
    assert run.data.tags["exported"] == version.tags["exported"] == "saved_models/line/3"
    assert run.data.tags["test_fingerprint"] == version.tags["fingerprint"]
    lineage = registry.lineage(version)
    assert (lineage["run_id"], lineage["values"]) == (run.info.run_id, {"batch_size": 8, "rate": 0.25})
    exported = settings.saved_models / "line" / "3" / "assets.extra" / "manifest.json"
    assert lineage.items() <= json.loads(exported.read_text())["origin"].items()


def test_a_gain_within_noise_does_not_win_and_old_exports_are_removed(project, line, empty_exports, capsys):
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
    assert "loss 0.64 beats the champion's 1 by no more than the noise, 10" in output
    assert "removed the exports of line 3" in output
    assert exported_versions(project.saved_models, "line") == [4]
    assert [row["version"] for row in registry.list_models()] == [4, 3, 2, 1]


def test_an_objective_without_a_test_metric_is_judged_by_validation(project, line, empty_exports):
    def add(epoch, logs):
        logs["val_own"] = 3.0 - abs(epoch - 1)

    line.objective, line.direction = "val_own", "max"
    line.callbacks = lambda hp: [keras.callbacks.LambdaCallback(on_epoch_end=add)]
    version = train(line, {"rate": 0.25}, project)
    tags = registry.get_version("line", version.version).tags
    assert (tags["metric"], tags["value"], tags["direction"]) == ("val_own", "3.0", "max")
    assert weight(1) == pytest.approx(1 - 0.5**2)


@pytest.fixture
def exported(project):
    """Versions 1 to 5 of digits: 3 is the champion, 4 and 5 are withdrawn."""
    connect(project)
    client = mlflow.MlflowClient()
    client.create_registered_model("digits")
    for version in range(1, 6):
        client.create_model_version("digits", "nowhere")
        name = str(version) if version <= 3 else f".withdrawn-{version}"
        (project.saved_models / "digits" / name / "variables").mkdir(parents=True)
        (project.saved_models / "digits" / name / "saved_model.pb").write_text(str(version))
    client.set_registered_model_alias("digits", "champion", "3")
    return project


def remaining(settings):
    folder = settings.saved_models
    assert not list((folder / "digits").glob(".tmp-*"))
    return exported_versions(folder, "digits"), withdrawn_versions(folder, "digits")


@pytest.mark.parametrize(
    "keep, removed, shown, withdrawn",
    [
        (1, [4, 2, 1], [3], [5]),
        (2, [2, 1], [3], [5, 4]),
        (4, [1], [3, 2], [5, 4]),
        (5, [], [3, 2, 1], [5, 4]),
        (9, [], [3, 2, 1], [5, 4]),
    ],
)
def test_the_newest_exports_and_the_champion_are_kept(exported, capsys, keep, removed, shown, withdrawn):
    assert retire(exported, "digits", keep) == removed
    assert remaining(exported) == (shown, withdrawn)
    text = ", ".join(map(str, removed))
    message = f"removed the exports of digits {text}; they remain in the registry\n" if removed else ""
    assert capsys.readouterr().out == message
    assert retire(exported, "digits", keep) == []


def test_without_a_champion_the_newest_exports_are_kept(exported):
    mlflow.MlflowClient().delete_registered_model_alias("digits", "champion")
    assert retire(exported, "digits", 2) == [3, 2, 1]


def test_an_interrupted_removal_does_not_prevent_later_ones(exported):
    (exported.saved_models / "digits" / ".tmp-retired-1" / "variables").mkdir(parents=True)
    assert retire(exported, "digits", 4) == [1]
    assert remaining(exported) == ([3, 2], [5, 4])


def test_nothing_is_removed_if_the_store_fails(exported, monkeypatch):
    def fail(*_):
        raise mlflow.MlflowException("disk I/O error")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", fail)
    with pytest.raises(mlflow.MlflowException):
        retire(exported, "digits", 1)
    assert remaining(exported) == ([3, 2, 1], [5, 4])


def test_keeping_no_export_is_rejected(exported):
    with pytest.raises(UserError, match="at least 1 export of digits. Received: 0"):
        retire(exported, "digits", 0)
    assert retire(exported, "speech", 1) == []
