"""The trials of a search, uninterrupted and resumed: no epoch is lost or repeated, and all numbers are equal."""

import shutil

import numpy as np
import pytest

from keras_dl.pipeline import load_pipeline
from keras_dl.training.fit import BEST, DONE, STATE, finished_training
from keras_dl.training.reuse import CompiledModels
from keras_dl.tuning.oracles import NAMES, RandomOracle
from keras_dl.tuning.results import SPREAD

from .halves import GRID, client_of, curve, curves, fits, runs, stop, write_pipeline

SPACE = {"cell": "max", "bias": True}  # pins


def outcome(project, tuner, parent):
    """Returns scores, values, curves and best models of the trials of a search."""
    trials = {key: (trial.score, trial.best_step, trial.status) for key, trial in tuner.oracle.trials.items()}
    values = [{**trial.hyperparameters.values} for trial in tuner.oracle.trials.values()]
    models = [tuner.load_model(trial).get_weights() for trial in tuner.oracle.trials.values()]
    weights = [[array.tobytes() for array in model] for model in models]
    return trials, values, curves(project, parent), weights


def start_over(project):
    """Removes the state of the search."""
    shutil.rmtree(project.root / "searches" / "halves")
    (project.root / "pipelines" / "fits.jsonl").unlink()


def interrupted(project, tune, pipeline, *arguments, **options):
    """Runs a search until it is interrupted; returns its run."""
    with pytest.raises(KeyboardInterrupt):
        tune(pipeline, *arguments, **options)
    return runs(project)[-1]


@pytest.mark.parametrize(
    "name",
    [name if name == "hyperband" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_a_search_interrupted_several_times_gives_the_same_results(project, tune, name):
    pipeline = write_pipeline(project.root)
    pipeline.epochs = 3
    trials, pins = 5 if name == "hyperband" else 3, GRID if name == "grid" else SPACE
    whole = outcome(project, *tune(pipeline, name, trials, pins))
    start_over(project)
    stop(project.root, 1, 0)  # before its first epoch
    parent = interrupted(project, tune, pipeline, name, trials, pins)
    for fit, epoch in [(2, 0), (5, 0)] if name == "hyperband" else [(2, 2), (4, 1)]:
        stop(project.root, fit, epoch)
        again = interrupted(project, tune, pipeline, name, trials, pins, run_id=parent.info.run_id)
        assert again.info.run_id == parent.info.run_id
        statuses = [run.info.status for run in runs(project, again)]
        assert statuses.count("KILLED") == 1 and set(statuses) <= {"FINISHED", "KILLED"}
    tuner, parent = tune(pipeline, name, trials, pins, run_id=parent.info.run_id)
    assert outcome(project, tuner, parent) == whole
    assert {run.info.status for run in runs(project, parent)} == {"FINISHED"}
    assert len(fits(project)) == trials + 3


def test_a_trial_is_resumed_after_its_last_finished_epoch_in_its_run(project, tune):
    pipeline = write_pipeline(project.root)
    pipeline.epochs = 3
    stop(project.root, 2, 2)
    parent = interrupted(project, tune, pipeline, trials=2)
    first, second = runs(project, parent)
    assert list(curve(project, second)) == [0, 1]
    _, parent = tune(pipeline, trials=2, run_id=parent.info.run_id)
    _, stopped, resumed = fits(project)
    steps = {32: 2, 64: 1}[stopped["batch_size"]]  # per epoch
    assert (stopped["iterations"], resumed) == (0, {**stopped, "iterations": 2 * steps})
    children = runs(project, parent)
    assert [child.info.run_id for child in children] == [first.info.run_id, second.info.run_id]
    assert [list(curve(project, child)) for child in children] == [[0, 1, 2]] * 2


# ---------------------------------------------------------------------------- one compiled model


def test_trials_that_differ_in_rates_share_a_compiled_model_with_unchanged_results(project, tune, monkeypatch):
    monkeypatch.setattr("keras_dl.tuning.tuner.CompiledModels", CompiledModels)
    pins = {"batch_size": 64, "units": 3, **SPACE}
    tuner, parent = tune(write_pipeline(project.root), pins=pins)
    assert tuner.models.reused == 2
    found = curves(project, parent)

    class Fresh:
        def take(self, model):
            return model

    start_over(project)
    pipeline = load_pipeline(project.root / "pipelines" / "halves.py")
    monkeypatch.setattr("keras_dl.tuning.tuner.CompiledModels", Fresh)
    _, parent = tune(pipeline, pins=pins)
    assert curves(project, parent) == found and len(set(map(str, found.values()))) == 3


# ---------------------------------------------------------------------------- executions


def test_executions_are_child_runs_of_trials_and_their_mean_is_the_score(project, tune):
    tuner, parent = tune(write_pipeline(project.root), trials=2, executions=3, pins=SPACE)
    trials = runs(project, parent)
    assert [trial.info.run_name for trial in trials] == ["trial-1", "trial-2"]
    for trial, known in zip(trials, tuner.oracle.trials.values(), strict=True):
        executions = runs(project, trial)
        assert [run.info.run_name for run in executions] == ["execution-1", "execution-2", "execution-3"]
        assert [run.data.tags["execution"] for run in executions] == ["0", "1", "2"]
        assert {run.info.status for run in (trial, *executions)} == {"FINISHED"}
        best = [min(curve(project, run).values()) for run in executions]
        assert len(set(best)) == 3  # other initial weights
        assert known.score == pytest.approx(np.mean(best)) == trial.data.metrics["best_val_loss"]
        spread = known.metrics.get_last_value(SPREAD)
        assert spread == pytest.approx(np.std(best, ddof=1)) == trial.data.metrics["spread_val_loss"]
        folder, number = tuner.best_execution(known.trial_id)
        assert number == int(np.argmin(best)) and finished_training(folder).best == pytest.approx(min(best))
        assert curve(project, trial) == {}  # only the executions have curves
        reported = {point.step: point.value[0] for point in known.metrics.get_history("val_loss")}
        assert reported == curve(project, executions[0])  # early stopping compares first executions


@pytest.mark.parametrize(
    "fit, epoch", [(2, 1), pytest.param(3, 0, marks=pytest.mark.slow), pytest.param(4, 1, marks=pytest.mark.slow)]
)
def test_a_search_interrupted_in_an_execution_is_resumed_there(project, tune, fit, epoch):
    pipeline = write_pipeline(project.root)
    options = {"trials": 2, "executions": 2, "pins": SPACE}
    tuner, parent = tune(pipeline, **options)
    whole = [curves(project, trial) for trial in runs(project, parent)]
    scores = [trial.score for trial in tuner.oracle.trials.values()]
    start_over(project)
    stop(project.root, fit, epoch)
    parent = interrupted(project, tune, pipeline, **options)
    tuner, parent = tune(pipeline, run_id=parent.info.run_id, **options)
    trials = runs(project, parent)
    assert [curves(project, trial) for trial in trials] == whole
    assert [trial.score for trial in tuner.oracle.trials.values()] == scores
    everything = [*trials, *(run for trial in trials for run in runs(project, trial))]
    assert len(everything) == 6 and {run.info.status for run in everything} == {"FINISHED"}
    assert len(fits(project)) == 5


# ---------------------------------------------------------------------------- ended early


def test_a_trial_stopped_by_the_time_limit_counts_with_its_best_epoch(project, tune):
    pipeline = write_pipeline(project.root)
    pipeline.epochs = 50
    started = lambda oracle: any(trial.metrics.exists("val_loss") for trial in oracle.trials.values())  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RandomOracle, "_out_of_time", started)
        tuner, parent = tune(pipeline, trials=3)
    (trial,) = tuner.oracle.trials.values()
    (run,) = runs(project, parent)
    assert trial.status == "COMPLETED" and list(curve(project, run)) == [0]
    assert trial.score == curve(project, run)[0] and run.data.tags["stopped_early"] == "true"


def test_a_trial_that_falls_behind_is_stopped_early(project, tune):
    """Trials with four units start with a high loss and do not learn; four other trials come before them."""
    hopeless = "if units == 4:\n    rate = 0.0\n    model.layers[-1].bias.assign([5.0])"
    pipeline = write_pipeline(project.root, hopeless)
    pipeline.epochs = 4
    pins = {"batch_size": 64, "rate": 0.1, "cell": "max"}
    tuner, parent = tune(pipeline, "grid", 6, pins, early_stopping="median")
    stopped = {}
    for run in runs(project, parent):
        early = run.data.tags["stopped_early"] == "true"
        stopped.setdefault(run.data.params["units"], []).append(early)
        assert list(curve(project, run)) == ([0] if early else [0, 1, 2, 3])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["best_val_loss"] == min(curve(project, run).values())
    assert stopped["4"] == [True, True] and stopped["3"] == [False, False]
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED"}


# ---------------------------------------------------------------------------- Hyperband


def test_a_promoted_trial_continues_from_the_state_of_its_parent(project, tune):
    pipeline = write_pipeline(project.root)
    pipeline.epochs = 3
    tuner, parent = tune(pipeline, "hyperband", 5, {"batch_size": 32})
    children = {run.data.tags["trial"]: run for run in runs(project, parent)}
    promoted = [fit for fit in fits(project) if fit.get("tuner/trial_id")]
    assert promoted
    for fit in fits(project):
        assert fit["iterations"] == 2 * fit["tuner/initial_epoch"]  # two batches per epoch
    for trial in tuner.oracle.trials.values():
        values = trial.hyperparameters.values
        begin, end = values["tuner/initial_epoch"], values["tuner/epochs"]
        assert list(curve(project, children[trial.trial_id])) == list(range(begin, end))

    # One training run over all epochs gives the same curve.
    trial = next(t for t in tuner.oracle.trials.values() if t.hyperparameters.values.get("tuner/trial_id"))
    values = {k: v for k, v in trial.hyperparameters.values.items() if "/" not in k}
    joined = curve(project, children[trial.hyperparameters.values["tuner/trial_id"]])
    joined |= curve(project, children[trial.trial_id])
    start_over(project)
    tuner, parent = tune(pipeline, "random", 1, values)
    assert curve(project, runs(project, parent)[0]) == joined


# ---------------------------------------------------------------------------- failures


BROKEN = """
if units == 2:
    raise ValueError("2 units are too few")
if units == 4:
    loss = lambda target, output: keras.ops.mean(output) * float("nan")
"""


def test_failed_trials_are_failed_runs_with_their_traceback(project, tune):
    tuner, parent = tune(write_pipeline(project.root, BROKEN), "grid", 3, GRID)
    children = {run.data.params["units"]: run for run in runs(project, parent)}
    statuses = {units: run.info.status for units, run in children.items()}
    assert statuses == {"2": "FAILED", "3": "FINISHED", "4": "FAILED"}
    assert children["2"].data.tags["error"] == "ValueError: 2 units are too few"
    assert "loss is nan in epoch 1" in children["4"].data.tags["error"]
    client = client_of(project)
    for units, line in (("2", "raise ValueError"), ("4", "raise kt.errors.FailedTrialError")):
        path = client.download_artifacts(children[units].info.run_id, "error.txt")
        text = open(path).read()
        assert text.startswith("Traceback") and line in text
    known = {trial.hyperparameters.get("units"): trial for trial in tuner.oracle.trials.values()}
    assert {units: trial.status for units, trial in known.items()} == {2: "FAILED", 3: "COMPLETED", 4: "FAILED"}
    assert "2 units are too few" in known[2].message


def test_the_state_of_a_trial(project, tune):
    tuner, _ = tune(write_pipeline(project.root), trials=1)
    names = {path.name for path in tuner.trial_folder("0").iterdir()}
    assert {BEST, DONE, "events.jsonl", "delivered.json"} <= names
    assert STATE not in names and not [name for name in names if ".tmp" in name]
