"""A pipeline -> a search, tracked and resumable -> its best model, published."""

import contextlib
import json
import shutil

import filelock
import keras_tuner as kt
import mlflow

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline, describe, space
from keras_dl.serving.export import answer, check_writable
from keras_dl.tracking.registry import Registered
from keras_dl.tracking.runs import close_abandoned, connect, log_origin, open_run
from keras_dl.tracking.settings import Settings
from keras_dl.training import example_request, export_champion, learning_curves, log_picture, publish
from keras_dl.tuning.oracles import make_oracle
from keras_dl.tuning.pictures import parallel_coordinates
from keras_dl.tuning.progress import SearchTable
from keras_dl.tuning.tuner import TrialTuner, run_name, write_json


def search(
    pipeline: Pipeline,
    settings: Settings,
    tuner: str = "random",
    pins: dict | None = None,
    fresh: bool = False,
) -> Registered:
    """Searches the pipeline's space, then publishes the best trial's model.

    The state lies in `searches/<name>/` beside `mlflow.yaml` until the best model is registered: stopped at any moment,
    the same call goes on with every finished trial and the same MLflow run.

    Args:
        pipeline: from `load_pipeline`; its `trials`, `epochs`, `seed` and `source` count.
        settings: of `mlflow.yaml`.
        tuner: `"random"`, `"bayesian"`, `"hyperband"` or `"grid"`.
        pins: hyperparameters that are not searched, with their values.
        fresh: throw an unfinished search away. Defaults to False.

    Raises:
        UserError: before any trial, for pins outside the space, an empty split, an unusable store or folder, or an
            unfinished search of other arguments; at the end, if every trial failed.
    """
    check_writable(settings.saved_models)
    check_writable(settings.root / "searches")
    state = settings.root / "searches" / pipeline.name
    try:
        with filelock.FileLock(f"{state}.lock", timeout=0):
            return _search(pipeline, settings, tuner, pins or {}, fresh, state)
    except filelock.Timeout:
        raise UserError(f"another search of {pipeline.name} is running in {state}: wait for it, or stop it") from None


def _search(pipeline, settings, tuner, pins, fresh, state):
    direction = pipeline.goal[1]
    connect(settings, pipeline.name)
    if fresh:
        _throw_away(state)
    arguments = {"tuner": tuner, "trials": pipeline.trials, "epochs": pipeline.epochs, "seed": pipeline.seed}
    arguments |= {"data": pipeline.source, "objective": pipeline.objective, "pins": pins}
    _unfinished(state, arguments)  # told before the data are prepared
    found = space(pipeline, pins)
    answer(pipeline, pipeline.build(found), example_request(pipeline, found.values))
    arguments["space"] = [describe(entry) for entry in found.space]
    earlier = _unfinished(state, arguments)

    fixed = kt.HyperParameters()
    for pin, value in pins.items():
        fixed.Fixed(pin, value)
    objective = kt.Objective(pipeline.objective, direction)
    oracle = make_oracle(tuner, objective, pipeline.trials, pipeline.epochs, pipeline.seed, fixed)
    table = SearchTable(pipeline.objective, direction, pipeline.trials, pipeline.epochs)
    with open_run(settings, f"search-{tuner}", {"kind": "search", "tuner": tuner}, earlier.get("run_id")) as run:
        state.mkdir(parents=True, exist_ok=True)
        write_json(state / "search.json", {"arguments": arguments, "run_id": run.info.run_id})
        log_origin(pipeline)  # also of a search that goes on: the file may have changed
        if run.info.run_id != earlier.get("run_id"):  # somebody may have deleted that one
            mlflow.log_params({key: value for key, value in arguments.items() if key != "space"})
            mlflow.log_text("\n".join(arguments["space"]) + "\n", "space.txt")
        tuner = TrialTuner(pipeline, oracle, settings, state, table)
        with table:
            table.resume(oracle.get_trial(trial_id) for trial_id in oracle.end_order)
            try:
                tuner.oracle.verbose = 0
                tuner.search()
            except kt.errors.FatalError as error:
                if not oracle.end_order:
                    shutil.rmtree(state)  # nothing to go on from
                raise error.__cause__ or error from None
        best = _log_results(pipeline, tuner, found)
        model = tuner.load_model(best)
        values = best.hyperparameters.values
        version = publish(pipeline, model, values, settings)
        shutil.rmtree(state)  # its model is safe
        export_champion(pipeline, model, values, version, settings)
        return version


def _unfinished(state, arguments):
    """What an earlier, unfinished search left behind; {} if there is none."""
    record = state / "search.json"
    if not record.is_file():
        shutil.rmtree(state, ignore_errors=True)
        return {}
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))
        was = earlier["arguments"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{record} cannot be read ({error}): give --fresh to begin anew") from error
    changed = [
        f"{key} was {was.get(key)!r} and is {value!r}" for key, value in arguments.items() if was.get(key) != value
    ]
    if changed:
        raise UserError(
            f"an unfinished search lies in {state}, with other arguments: {'; '.join(changed)}. Repeat it "
            "with the same arguments to go on, or give --fresh to throw it away"
        )
    return earlier


def _throw_away(state):
    record = state / "search.json"
    if record.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            close_abandoned(json.loads(record.read_text(encoding="utf-8"))["run_id"])
    shutil.rmtree(state, ignore_errors=True)


def _log_results(pipeline, tuner, found):
    """Logs what the whole search shows to the active run; returns the best trial."""
    oracle = tuner.oracle
    trials = [oracle.get_trial(trial_id) for trial_id in oracle.start_order]
    done = [trial for trial in trials if trial.status == "COMPLETED"]
    mlflow.log_metrics({"trials_completed": len(done), "trials_failed": len(trials) - len(done)})
    if not done:
        shutil.rmtree(tuner.directory)  # nothing to go on from: the same call begins anew
        reason = (trials[-1].message or f"{pipeline.objective} is no number").strip().splitlines()[-1]
        raise UserError(f"all {len(trials)} trials failed; the last one: {reason}. Their runs hold the tracebacks")
    best = oracle.get_best_trials(1)[0]
    mlflow.log_metric(f"best_{pipeline.objective}", best.score)
    mlflow.set_tag("best_trial", run_name(best))
    mlflow.log_params({f"best_{name}": value for name, value in best.hyperparameters.values.items()})
    rows = [{**_values(trial), pipeline.objective: trial.score} for trial in done]
    columns = dict.fromkeys(key for row in rows for key in row)  # some values only some trials have
    mlflow.log_table({key: [row.get(key) for row in rows] for key in columns}, "trials.json")
    logarithmic = [entry.name for entry in found.space if getattr(entry, "sampling", None) == "log"]
    log_picture("search", parallel_coordinates(rows, pipeline.objective, pipeline.goal[1], logarithmic))
    curves = {run_name(trial): tuner.curve(trial) for trial in done}
    log_picture("learning_curves", learning_curves(curves, pipeline.objective))
    return best


def _values(trial):
    return {name: value for name, value in trial.hyperparameters.values.items() if "/" not in name}
