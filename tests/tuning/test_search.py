"""The results of a search of three trials, and searches with other options."""

import json
import math

import keras_tuner as kt
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry
from keras_dl.release.champion import compare
from keras_dl.tracking.names import mlflow_names, recorded_name
from keras_dl.training.reproduce import reproduce
from keras_dl.training.train import train
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search

from .halves import GRID, KILL, PIPELINE, artifacts, curve, fits, runs, stop, text_of, write_pipeline


def test_a_search_is_a_parent_run_with_a_child_run_per_trial(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    children = runs(settings, parent)
    assert parent.info.run_name == "search-random"
    assert [child.info.run_name for child in children] == ["trial-1", "trial-2", "trial-3"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len(fits(settings)) == 3


def test_a_child_run_has_the_values_and_the_curve_of_its_trial(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    for child, fitted in zip(runs(settings, parent), fits(settings), strict=True):
        assert child.data.params == {name: str(value) for name, value in fitted.items() if name != "iterations"}
        for metric in ("loss", "val_loss", "accuracy", "val_accuracy", "epoch_seconds"):
            assert list(curve(settings, child, metric)) == [0, 1], metric
        values = list(curve(settings, child).values())
        assert child.data.metrics["best_val_loss"] == pytest.approx(min(values))
        assert child.data.tags["best_epoch"] == str(values.index(min(values)) + 1)
        assert child.data.tags["kind"] == "trial" and child.data.tags["team"] == "speech"


def test_only_the_first_trial_has_the_defaults(searched):
    defaults = {"batch_size": 64, "units": 3, "rate": 0.01, "cell": "max", "bias": True, "iterations": 0}
    first, *others = fits(searched[0])
    assert first == defaults and defaults not in others


def test_the_parent_run_has_the_results_of_the_best_trial(searched):
    settings, version = searched
    (parent,) = runs(settings)
    children = runs(settings, parent)
    best = min(children, key=lambda child: child.data.metrics["best_val_loss"])
    metrics, params, tags = parent.data.metrics, parent.data.params, parent.data.tags
    assert metrics["best_val_loss"] == best.data.metrics["best_val_loss"]
    assert (metrics["trials_completed"], metrics["trials_failed"]) == (3, 0)
    assert 0 < metrics["training_seconds"] < metrics["search_seconds"]
    assert tags["best_trial"] == best.info.run_name
    for name in ("batch_size", "units", "rate"):
        assert params[f"best_{name}"] == best.data.params[name]
    assert {"tuner": "random", "trials": "3", "epochs": "2", "seed": "0"}.items() <= params.items()
    assert (tags["kind"], tags["pipeline"], tags["alias"]) == ("search", "halves", "champion")
    assert (tags["objective"], tags["direction"]) == ("val_loss", "min")
    assert tags["model_version"] == str(version.version)
    assert math.isfinite(metrics["test_loss"]) and 0 <= metrics["test_accuracy"] <= 1


def test_the_parent_run_has_the_artifacts_of_the_search(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    names = {"pipeline", "environment.json", "space.txt", "values.json", "trials.json"}
    assert names | {"search.png", "learning_curves.png", "halves.html"} <= artifacts(settings, parent)
    assert "rate from 0.001 to 0.1 (default 0.01)" in text_of(parent, "space.txt")
    values = json.loads(text_of(parent, "values.json"))
    assert {f"best_{name}": str(value) for name, value in values.items()}.items() <= parent.data.params.items()


def test_the_best_model_is_registered(searched, connected):
    _, version = searched
    assert (version.version, version.alias) == (1, "champion")
    (row,) = registry.list_models()
    (parent,) = runs(connected)
    assert (row["name"], row["aliases"], row["run_id"]) == ("halves", ["champion"], parent.info.run_id)
    assert (row["metric"], float(row["value"])) == ("loss", parent.data.metrics["test_loss"])
    assert row["fingerprint"] == parent.data.tags["test_fingerprint"]


def test_the_exported_model_is_the_registered_model_of_the_best_trial(searched, connected):
    x = np.random.default_rng(5).normal(size=(4, 9, 1)).astype("float32")
    model = mlflow.keras.load_model("models:/halves@champion")
    served = tf.saved_model.load(str(connected.saved_models / "halves" / "1")).signatures["serving_default"]
    np.testing.assert_allclose(served(signal=x)["larger"], model(x), rtol=1e-5)
    pipeline = load_pipeline(connected.root / "pipelines" / "halves.py")
    values, _ = registry.origin(registry.get_version("halves", "champion"))
    assert model.layers[1].filters == values["units"]
    results = model.evaluate(pipeline.data(kt.HyperParameters()).validation, verbose=0, return_dict=True)
    (parent,) = runs(connected)
    assert results["loss"] == pytest.approx(parent.data.metrics["best_val_loss"], rel=1e-5)


def test_only_the_report_of_a_finished_search_is_kept(searched):
    settings, _ = searched
    left = {path.name for path in (settings.root / "searches").iterdir()} - {"halves.lock"}
    assert left == {"halves.html"}
    assert [path.name for path in (settings.saved_models / "halves").iterdir()] == ["1"]


def test_a_training_with_the_values_of_a_trial_has_the_same_curve(searched, project):
    """Trials share compiled models; a training run compiles its own."""
    settings, _ = searched
    (parent,) = runs(settings)
    trial = runs(settings, parent)[-1]
    values = {name: value for name, value in fits(settings)[2].items() if name != "iterations"}
    train(write_pipeline(project.root), values, project)
    (training,) = runs(project)
    for metric in ("loss", "val_loss", "accuracy"):
        assert curve(project, training, metric) == curve(settings, trial, metric)


# ---------------------------------------------------------------------------- options


def test_pins_and_executions(project, without_drawing):
    """Every trial has the pinned values, and the version has the spread over the executions of the best one."""
    pins = {"units": 4, "rate": 0.05, "cell": "mean"}
    plan = Plan(tuner="bayesian", trials=3, pins=pins, executions=2)
    version = search(write_pipeline(project.root), project, plan)
    assert {(fit["units"], fit["rate"], fit["cell"]) for fit in fits(project)} == {(4, 0.05, "mean")}
    (parent,) = runs(project)
    children = runs(project, parent)
    assert len({(child.data.params["batch_size"], child.data.params["bias"]) for child in children}) == 3
    assert parent.data.params["pins"] == str(pins) and parent.data.params["best_units"] == "4"
    best = min(children, key=lambda run: run.data.metrics["best_val_loss"])
    assert parent.data.metrics["best_val_loss"] == best.data.metrics["best_val_loss"]
    mlflow.set_tracking_uri(project.tracking_uri)
    spread = float(registry.get_version("halves", version.version).tags["spread"])
    assert spread == pytest.approx(best.data.metrics["spread_val_loss"], rel=1e-3)


NAMED = (
    ['hp.Int("units[0]", 1, 9)', 'hp.Int("units(0)", 1, 9)', 'hp.Float("rate (%)", 0.1, 9.0)']
    + ['hp.Int("spread", 1, 9)', 'hp.Int("epochs", 1, 9)', 'hp.Choice("objective", ["3", "4"])']
    + ['with hp.name_scope("encoder"): hp.Int("units", 1, 9)']
)
METRICS = ("hits@3", "hits#3", "acc (%)", "score", "spread", "seconds", "stopped", "epoch_seconds")


def test_names_with_any_characters_are_searched_pinned_logged_published_and_reproduced(project, capsys):
    text = PIPELINE.replace("# BUILD", "\n        ".join(NAMED))
    named = ", ".join(f'keras.metrics.MeanSquaredError(name="{name}")' for name in METRICS)
    file = project.root / "pipelines" / "halves.py"
    file.parent.mkdir()
    file.write_text(text.replace('metrics=["accuracy"]', f"metrics=[{named}]"))
    pipeline = load_pipeline(file)
    pipeline.objective, pipeline.direction = "val_hits@3", "min"
    pins = {**GRID, "units[0]": "5", "encoder/units": "6", "objective": "4", "epochs": "7"}
    version = search(pipeline, project, Plan(trials=1, pins={**pins, "bias": "true"}))
    header = capsys.readouterr().out.splitlines()[0]
    assert "encoder/units" in header and "units[0]" in header and "val_hits@3" in header

    (parent,) = runs(project)
    params = mlflow_names(["best_units[0]", "best_units(0)", "best_encoder/units", "best_rate (%)"])
    values = json.loads(text_of(parent, "values.json"))
    assert (values["units[0]"], values["encoder/units"], values["objective"], values["epochs"]) == (5, 6, "4", 7)
    for name, shown in params.items():
        assert parent.data.params[shown] == str(values[name.removeprefix("best_")])
    (trial,) = runs(project, parent)
    shown = mlflow_names([*METRICS, *(f"val_{name}" for name in METRICS)])
    rows = {name: curve(project, trial, shown[name]) for name in shown}
    for name in METRICS:  # all are the same metric
        assert rows[name] == rows["score"] and rows[f"val_{name}"] == rows["val_score"], name
    assert set(rows["score"]) == {0, 1}
    for run in (parent, trial):
        best = run.data.metrics[recorded_name("best_val_hits@3", run.data.metrics)]
        assert best == min(rows["val_score"].values())

    tested = mlflow_names(f"test_{name}" for name in METRICS)
    assert len({parent.data.metrics[shown] for shown in tested.values()}) == 1
    mlflow.set_tracking_uri(project.tracking_uri)
    assert registry.get_version("halves", version.version).tags["metric"] == "hits@3"

    again = train(pipeline, {**pins, "units[0]": "5"}, project)
    assert again.version == 2
    compare(project, "halves", "1", "2")
    assert "encoder/units" in capsys.readouterr().out
    assert reproduce(load_pipeline(file), runs(project)[1].info.run_id, project)
    output = capsys.readouterr().out
    assert "identical" in output and all(f"val_{name}" in output for name in METRICS)


def test_several_metrics_are_one_objective_with_a_pareto_front_in_the_report(project, without_drawing):
    pipeline = write_pipeline(project.root)
    pipeline.objective = "val_accuracy,val_loss:0.5"
    version = search(pipeline, project, Plan(trials=2))
    (parent,) = runs(project)
    for child in runs(project, parent):
        accuracy, loss = (curve(project, child, metric) for metric in ("val_accuracy", "val_loss"))
        weighted = [0.5 * loss[step] - accuracy[step] for step in (0, 1)]
        assert child.data.metrics["best_objective"] == pytest.approx(min(weighted))
    assert parent.data.metrics["best_objective"] == min(
        child.data.metrics["best_objective"] for child in runs(project, parent)
    )
    assert (parent.data.tags["objective"], parent.data.tags["direction"]) == ("objective", "min")
    page = (project.root / "searches" / "halves.html").read_text()
    assert "Pareto front" in page and "val_accuracy: higher is better" in page
    mlflow.set_tracking_uri(project.tracking_uri)
    assert registry.get_version("halves", version.version).tags["metric"] == "accuracy"


def test_a_search_without_time_for_a_trial_raises_an_error(project):
    with pytest.raises(UserError, match="no trial"):
        search(write_pipeline(project.root), project, Plan(max_time=1e-6))
    (parent,) = runs(project)
    assert parent.info.status == "FAILED" and runs(project, parent) == []


# ---------------------------------------------------------------------------- workers


def found(settings, parent):
    """Returns values and curves of the trials of a search, sorted."""
    children = runs(settings, parent)
    assert {child.info.status for child in children} == {"FINISHED"}
    return sorted((sorted(child.data.params.items()), sorted(curve(settings, child).items())) for child in children)


@pytest.mark.slow  # two processes that import TensorFlow
def test_workers_give_the_same_results_as_one_process(project, searched):
    settings, _ = searched
    assert search(write_pipeline(project.root), project, Plan(workers=2)).version == 1
    (one,), (two,) = runs(settings), runs(project)
    assert found(project, two) == found(settings, one)
    assert two.data.metrics["best_val_loss"] == one.data.metrics["best_val_loss"]
    assert two.data.metrics["test_loss"] == one.data.metrics["test_loss"]
    assert {child.data.tags["worker"] for child in runs(project, two)} <= {"worker-0", "worker-1"}


@pytest.mark.slow
def test_a_killed_worker_resumes_its_trial(project):
    pipeline = write_pipeline(project.root)
    pipeline.epochs = 4
    search(pipeline, project, Plan(trials=5))
    (project.root / "pipelines" / "fits.jsonl").unlink()
    stop(project.root, 3, 2, KILL)
    search(pipeline, project, Plan(trials=5, workers=2))
    assert (project.root / "pipelines" / "stopped").exists() and len(fits(project)) == 6
    one, two = (found(project, parent) for parent in runs(project))
    assert [values for values, _ in two] == [values for values, _ in one]
    for (_, curve_two), (_, curve_one) in zip(two, one, strict=True):  # a worker has fewer threads
        assert [step for step, _ in curve_two] == [step for step, _ in curve_one]
        assert [value for _, value in curve_two] == pytest.approx([value for _, value in curve_one], rel=1e-5)
