"""Whole searches with a tiny pipeline in a real store: what is tracked, what is published, what goes wrong."""

import json
import math
import shutil
from pathlib import Path

import filelock
import keras_tuner as kt
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.tracking import registry
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.search import search

# Every fit is written to fits.jsonl. The file `stop` with a number n stops the n-th fit, counted from 1, after its
# first epoch as Ctrl-C does.
PIPELINE = '''"""Which half is larger."""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches

HERE = Path(__file__).parent


def halves(count, seed):
    signal = np.random.default_rng(seed).normal(size=(count, 6, 1)).astype("float32")
    larger = signal[:, :3].sum(1) > signal[:, 3:].sum(1)
    return tf.data.Dataset.from_tensor_slices((signal, larger.astype("float32"))).cache()


class Journal(keras.callbacks.Callback):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_train_begin(self, logs=None):
        with open(HERE / "fits.jsonl", "a") as file:
            file.write(json.dumps({**self.values, "iterations": int(self.model.optimizer.iterations)}) + "\\n")

    def on_epoch_end(self, epoch, logs=None):
        stop, fits = HERE / "stop", len((HERE / "fits.jsonl").read_text().splitlines())
        if stop.exists() and fits == int(stop.read_text()):
            stop.unlink()
            raise KeyboardInterrupt


class Halves(Pipeline):
    objective = "val_loss"
    epochs = 2
    trials = 3

    def data(self, hp):
        splits = Splits(halves(64, 1), halves(32, 2), halves(32, 3))
        return batches(splits, hp.Choice("batch_size", [32, 64], default=64), seed=self.seed)

    def build(self, hp):
        units = hp.Choice("units", [2, 3, 4], default=3)
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log", default=1e-2)
        signal = keras.Input((None, 1), name="signal")
        x = keras.layers.GlobalMaxPooling1D()(keras.layers.Conv1D(units, 3, activation="relu")(signal))
        model = keras.Model(signal, keras.layers.Dense(1, "sigmoid", name="larger")(x))
        loss = "binary_crossentropy"
        # BUILD
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
        fit = model.fit

        def journalled(*arguments, callbacks, **options):
            return fit(*arguments, callbacks=[*callbacks, Journal(dict(hp.values))], **options)

        model.fit = journalled
        return model
'''


def write_pipeline(root, build=""):
    """The pipeline of the folder; `build` are lines to put before its `compile`."""
    file = root / "pipelines" / "halves.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(PIPELINE.replace("# BUILD", build.replace("\n", "\n        ")))
    return load_pipeline(file)


def fits(settings):
    lines = (settings.root / "pipelines" / "fits.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def runs(settings, parent=None):
    """The runs below `parent` in the order of their start; without one, those below none."""
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    found = client.search_runs([client.get_experiment_by_name("halves").experiment_id], order_by=["start_time ASC"])
    parent_id = parent and parent.info.run_id
    return [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent_id]


def artifacts(settings, run):
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    return {file.path for file in client.list_artifacts(run.info.run_id)}


def text_of(run, name):
    return Path(run.info.artifact_uri.removeprefix("file://"), name).read_text()


GRID = {"batch_size": 64, "rate": 0.01}  # pins that leave the three values of `units`


# ---------------------------------------------------------------------------- one search, looked at from all sides


@pytest.fixture(scope="module")
def searched(tmp_path_factory, empty_store):
    """The settings of a project after one random search of three trials, and what it returned and printed."""
    root = tmp_path_factory.mktemp("searched")
    shutil.copy(empty_store, root / "mlflow.db")
    settings = Settings(system_metrics={"enabled": False}, tracking={"tags": {"team": "speech"}}, root=root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return settings, search(write_pipeline(root), settings)


@pytest.fixture
def connected(searched, monkeypatch):
    """The settings of that project, with MLflow pointed at its store."""
    settings, _ = searched
    monkeypatch.chdir(settings.root)
    mlflow.set_tracking_uri(settings.tracking_uri)
    return settings


def test_one_parent_and_a_child_for_each_trial(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    children = runs(settings, parent)
    assert parent.info.run_name == "search-random"
    assert [child.info.run_name for child in children] == ["trial-1", "trial-2", "trial-3"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len(fits(settings)) == 3


def test_a_child_has_its_values_and_its_curve(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    for child, fitted in zip(runs(settings, parent), fits(settings), strict=True):
        assert child.data.params == {name: str(fitted[name]) for name in ("batch_size", "units", "rate")}
        for metric in ("loss", "val_loss", "accuracy", "val_accuracy", "epoch_seconds"):
            points = client.get_metric_history(child.info.run_id, metric)
            assert [point.step for point in points] == [0, 1], metric
        curve = [point.value for point in client.get_metric_history(child.info.run_id, "val_loss")]
        assert child.data.metrics["best_val_loss"] == pytest.approx(min(curve))
        assert child.data.tags["best_epoch"] == str(curve.index(min(curve)) + 1)
        assert child.data.tags["kind"] == "trial" and child.data.tags["team"] == "speech"


def test_the_first_trial_has_the_defaults_and_the_others_have_not(searched):
    defaults = {"batch_size": 64, "units": 3, "rate": 0.01, "iterations": 0}
    first, *others = fits(searched[0])
    assert first == defaults and defaults not in others


def test_the_parent_tells_the_best(searched):
    settings, version = searched
    (parent,) = runs(settings)
    children = runs(settings, parent)
    best = min(children, key=lambda child: child.data.metrics["best_val_loss"])
    metrics, params, tags = parent.data.metrics, parent.data.params, parent.data.tags
    assert metrics["best_val_loss"] == best.data.metrics["best_val_loss"]
    assert (metrics["trials_completed"], metrics["trials_failed"]) == (3, 0)
    assert tags["best_trial"] == best.info.run_name
    for name in ("batch_size", "units", "rate"):
        assert params[f"best_{name}"] == best.data.params[name]
    assert {"tuner": "random", "trials": "3", "epochs": "2", "seed": "0"}.items() <= params.items()
    assert (tags["kind"], tags["pipeline"], tags["alias"]) == ("search", "halves", "champion")
    assert tags["model_version"] == str(version.version)
    assert math.isfinite(metrics["test_loss"]) and 0 <= metrics["test_accuracy"] <= 1


def test_the_parent_keeps_what_there_is_to_see(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    names = {"pipeline", "environment.json", "space.txt", "values.json", "trials.json"}
    assert artifacts(settings, parent) == names | {"search.png", "learning_curves.png"}
    assert "rate from 0.001 to 0.1 (default 0.01)" in text_of(parent, "space.txt")
    assert json.loads(text_of(parent, "values.json")) == {
        name.removeprefix("best_"): json.loads(value)
        for name, value in parent.data.params.items()
        if name.startswith("best_")
    }
    table = json.loads(text_of(parent, "trials.json"))
    assert set(table["columns"]) == {"batch_size", "units", "rate", "val_loss"} and len(table["data"]) == 3


def test_the_best_model_is_registered(searched, connected):
    _, version = searched
    assert (version.version, version.alias) == (1, "champion")
    (row,) = registry.list_models()
    (parent,) = runs(connected)
    assert (row["name"], row["aliases"], row["run_id"]) == ("halves", ["champion"], parent.info.run_id)
    assert (row["metric"], float(row["value"])) == ("loss", parent.data.metrics["test_loss"])
    assert row["fingerprint"] == parent.data.tags["test_fingerprint"]


def test_the_exported_model_is_the_registered_one_and_the_best_trials(searched, connected):
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


def test_nothing_is_left_of_the_search(searched):
    settings, _ = searched
    assert not (settings.root / "searches" / "halves").exists()
    assert [path.name for path in (settings.saved_models / "halves").iterdir()] == ["1"]


# ---------------------------------------------------------------------------- trials that fail

BROKEN = """
if units == 2:
    raise ValueError("2 units are too few")
if units == 4:
    loss = lambda target, output: keras.ops.mean(output) * float("nan")
"""


def test_failed_trials_are_seen_and_the_search_goes_on(project, capfd):
    version = search(write_pipeline(project.root, BROKEN), project, "grid", GRID)
    (parent,) = runs(project)
    children = {child.data.params["units"]: child for child in runs(project, parent)}
    assert {units: child.info.status for units, child in children.items()} == {
        "2": "FAILED", "3": "FINISHED", "4": "FAILED"
    }  # fmt: skip
    assert "ValueError: 2 units are too few" in children["2"].data.tags["error"]
    assert "loss is nan in epoch 1" in children["4"].data.tags["error"]
    for units in ("2", "4"):
        assert text_of(children[units], "error.txt").startswith("Traceback")
    assert "error" not in children["3"].data.tags
    assert (parent.info.status, parent.data.params["best_units"]) == ("FINISHED", "3")
    assert (parent.data.metrics["trials_completed"], parent.data.metrics["trials_failed"]) == (1, 2)
    assert version.alias == "champion"
    output = capfd.readouterr()
    assert "2 units are too few" in output.out and "loss is nan in epoch 1" in output.out
    assert "Traceback" not in output.out + output.err


def test_if_every_trial_fails_the_search_does_and_the_next_begins_anew(project):
    pipeline = write_pipeline(project.root, 'loss = lambda target, output: keras.ops.mean(output) * float("nan")')
    pipeline.trials = 2
    with pytest.raises(UserError, match="all 2 trials failed; the last one: .*loss is nan in epoch 1"):
        search(pipeline, project)
    (parent,) = runs(project)
    assert parent.info.status == "FAILED" and "all 2 trials failed" in parent.data.tags["error"]
    assert [child.info.status for child in runs(project, parent)] == ["FAILED", "FAILED"]
    assert mlflow.MlflowClient(project.tracking_uri).search_registered_models() == []
    assert not (project.saved_models / "halves").exists()

    pipeline = write_pipeline(project.root)
    pipeline.trials = 1  # other arguments are no reason to complain: there is nothing to go on from
    assert search(pipeline, project).version == 1
    _, second = runs(project)
    assert second.info.status == "FINISHED" and len(runs(project, second)) == 1


def test_a_missing_objective_is_told_in_the_first_trial(project):
    pipeline = write_pipeline(project.root)
    pipeline.objective, pipeline.direction = "val_error_rate", "min"
    with pytest.raises(
        UserError, match="'val_error_rate' is not among the metrics: accuracy, loss, val_accuracy, val_l"
    ):
        search(pipeline, project)
    assert len(fits(project)) == 1
    (parent,) = runs(project)
    assert [run.info.status for run in (parent, *runs(project, parent))] == ["FAILED", "FAILED"]
    assert not (project.saved_models / "halves").exists()
    assert not (project.root / "searches" / "halves").exists()  # with the name mended, nothing stands in the way


# ---------------------------------------------------------------------------- stopped and gone on with


@pytest.mark.parametrize("tuner, stopped", [("random", 1), ("random", 2), ("grid", 2)])
def test_a_stopped_search_goes_on(project, tuner, stopped):
    pipeline = write_pipeline(project.root)
    pins = GRID if tuner == "grid" else {}
    (project.root / "pipelines" / "stop").write_text(str(stopped))
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, project, tuner, pins)
    (parent,) = runs(project)
    assert parent.info.status == "KILLED"
    before = runs(project, parent)
    assert [child.info.status for child in before] == ["FINISHED"] * (stopped - 1) + ["KILLED"]
    assert mlflow.active_run() is None

    assert search(pipeline, project, tuner, pins).version == 1
    (again,) = runs(project)
    assert again.info.run_id == parent.info.run_id and again.info.status == "FINISHED"
    children = runs(project, again)
    assert [child.info.status for child in children] == ["FINISHED"] * 3
    assert [child.data.tags["trial"] for child in children] == ["0", "1", "2"]
    kept = [child.info.run_id for child in before[:-1]]
    assert [child.info.run_id for child in children[: len(kept)]] == kept
    fitted = fits(project)
    assert len(fitted) == 4 and fitted[stopped - 1] == fitted[stopped]  # the stopped one again, with its own values
    assert len({json.dumps(fit) for fit in fitted}) == 3
    if tuner == "grid":
        assert {fit["units"] for fit in fitted} == {2, 3, 4}
    client = mlflow.MlflowClient(project.tracking_uri)
    for child in children:
        points = client.get_metric_history(child.info.run_id, "val_loss")
        assert [point.step for point in points] == [0, 1]


def test_a_stopped_search_goes_on_without_its_deleted_run(project):
    pipeline = write_pipeline(project.root)
    pipeline.trials = 2
    (project.root / "pipelines" / "stop").write_text("2")
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, project)
    (parent,) = runs(project)
    mlflow.delete_run(parent.info.run_id)
    assert search(pipeline, project).version == 1
    (new,) = runs(project)
    assert new.info.run_id != parent.info.run_id and new.info.status == "FINISHED"
    assert new.data.params["trials"] == "2" and new.data.metrics["trials_completed"] == 2
    assert {"environment.json", "space.txt"} < artifacts(project, new)


def test_other_arguments_do_not_go_on_with_a_stopped_search(project):
    pipeline = write_pipeline(project.root)
    (project.root / "pipelines" / "stop").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, project)

    def refusal(*arguments, **changes):
        changed = write_pipeline(project.root)
        for name, value in changes.items():
            setattr(changed, name, value)
        with pytest.raises(UserError, match="an unfinished search lies in .*--fresh") as caught:
            search(changed, project, *arguments)
        return str(caught.value)

    assert "tuner was 'random' and is 'grid'" in refusal("grid")
    assert "trials was 3 and is 5" in refusal(trials=5)
    message = refusal(epochs=1, seed=4)
    assert "epochs was 2 and is 1; seed was 0 and is 4" in message
    assert "data was None and is 'tfds:mnist'" in refusal(source="tfds:mnist")
    assert "objective was 'val_loss' and is 'val_accuracy'" in refusal(objective="val_accuracy")
    assert "pins was {} and is {'units': 2}" in refusal("random", {"units": 2})
    assert len(fits(project)) == 1 and len(runs(project)) == 1

    # The space itself has changed.
    file = project.root / "pipelines" / "halves.py"
    file.write_text(file.read_text().replace("[2, 3, 4]", "[2, 3, 4, 5]"))
    with pytest.raises(UserError, match="space was .*one of 2, 3, 4 .*and is .*one of 2, 3, 4, 5 "):
        search(load_pipeline(file), project)

    pipeline = load_pipeline(file)
    pipeline.trials = 1
    assert search(pipeline, project, fresh=True).version == 1
    old, new = runs(project)
    assert (old.info.status, new.info.status) == ("KILLED", "FINISHED")
    assert len(runs(project, new)) == 1


# ---------------------------------------------------------------------------- strategies and pins


def test_pins_are_kept_in_every_trial(project):
    pipeline = write_pipeline(project.root)
    pins = {"units": 4, "rate": 0.05}
    search(pipeline, project, "bayesian", pins)
    assert [(fit["units"], fit["rate"]) for fit in fits(project)] == [(4, 0.05)] * len(fits(project))
    (parent,) = runs(project)
    children = runs(project, parent)
    assert {child.data.params["batch_size"] for child in children} == {"32", "64"}
    assert {(child.data.params["units"], child.data.params["rate"]) for child in children} == {("4", "0.05")}
    assert parent.data.params["pins"] == str(pins) and parent.data.params["best_units"] == "4"


def test_hyperband_goes_on_with_the_better_trials(project):
    pipeline = write_pipeline(project.root)
    pipeline.trials, pipeline.epochs = 4, 3
    version = search(pipeline, project, "hyperband", {"batch_size": 32})
    fitted = fits(project)
    assert len(fitted) == 4
    promoted = [fit for fit in fitted if fit.get("tuner/trial_id")]
    assert promoted, fitted
    for fit in fitted:
        # Two batches of 32 an epoch: the optimizer goes on counting from the checkpoint.
        assert fit["iterations"] == 2 * fit["tuner/initial_epoch"]
    (parent,) = runs(project)
    client = mlflow.MlflowClient(project.tracking_uri)
    for child in runs(project, parent):
        points = client.get_metric_history(child.info.run_id, "val_loss")
        begin, end = int(child.data.params["tuner/initial_epoch"]), int(child.data.params["tuner/epochs"])
        assert [point.step for point in points] == list(range(begin, end))
    assert version.alias == "champion" and (project.saved_models / "halves" / "1").is_dir()


# ---------------------------------------------------------------------------- refusals before and after


def test_an_unwritable_folder_is_told_before_any_work(project):
    project.saved_models.write_text("a file in its place")
    with pytest.raises(UserError, match="cannot write to .*saved_models"):
        search(write_pipeline(project.root), project)
    assert not (project.root / "pipelines" / "fits.jsonl").exists()
    assert mlflow.MlflowClient(project.tracking_uri).get_experiment_by_name("halves") is None
    assert not (project.root / "searches").exists()


@pytest.mark.parametrize(
    "pins, message",
    [
        ({"unit": 3}, r"unknown: unit\. This pipeline has: batch_size .*; units one of 2, 3, 4 .*; rate from 0\.001"),
        ({"units": 5}, r"units=5 is not possible: expected units one of 2, 3, 4"),
        ({"rate": "fast"}, r"rate='fast' is not possible: expected rate from 0\.001 to 0\.1"),
    ],
)
def test_wrong_pins_are_told_before_any_work(project, pins, message):
    with pytest.raises(UserError, match=message):
        search(write_pipeline(project.root), project, pins=pins)
    assert not (project.root / "pipelines" / "fits.jsonl").exists()
    assert runs(project) == [] and not [path for path in (project.root / "searches").glob("*") if path.is_dir()]


def test_an_export_that_fails_leaves_the_version_and_tells_what_to_do(project, monkeypatch):
    monkeypatch.chdir(project.root)
    pipeline = write_pipeline(project.root)
    pipeline.trials = 1
    project.saved_models.mkdir()
    (project.saved_models / "halves").write_text("a file in its place")
    with pytest.raises(UserError) as caught:
        search(pipeline, project)
    message = str(caught.value)
    assert "cannot write to" in message and "The model is safe in the registry" in message
    assert message.endswith("keras-dl export pipelines/halves.py --model 1")
    assert int(registry.get_version("halves", "champion").version) == 1
    assert not (project.root / "searches" / "halves").exists()

    # The search is over: the next one is a new one, and does not register the same model again.
    (project.saved_models / "halves").unlink()
    pipeline.seed = 1
    assert search(pipeline, project).version == 2


def test_two_searches_at_once_do_not_meet(project):
    folder = project.root / "searches"
    folder.mkdir()
    with filelock.FileLock(folder / "halves.lock"):
        with pytest.raises(UserError, match="another search of halves is running"):
            search(write_pipeline(project.root), project)
    assert not (folder / "halves").exists()


def test_a_search_thrown_away_leaves_no_run_running(project):
    pipeline = write_pipeline(project.root)
    (project.root / "pipelines" / "stop").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, project)
    (parent,) = runs(project)
    (child,) = runs(project, parent)
    client = mlflow.MlflowClient(project.tracking_uri)
    for run in (parent, child):  # as after a kill, which closes nothing
        client.update_run(run.info.run_id, status="RUNNING")
    search(pipeline, project, fresh=True)
    assert [client.get_run(run.info.run_id).info.status for run in (parent, child)] == ["KILLED", "KILLED"]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_unreadable_record_names_the_way_out(project, text):
    state = project.root / "searches" / "halves"
    state.mkdir(parents=True)
    (state / "search.json").write_text(text)
    with pytest.raises(UserError, match="search.json cannot be read .*--fresh"):
        search(write_pipeline(project.root), project)
