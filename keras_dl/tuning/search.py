"""A pipeline -> a search, tracked and resumable -> its best model, published."""

import uuid
from pathlib import Path

import filelock
import keras_tuner as kt
import mlflow

from keras_dl.durable import check_space, exhausted, remove_folder, write_json
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline, space
from keras_dl.release import registry
from keras_dl.release.permissions import check_registry
from keras_dl.release.publish import example_request, export_champion, publish
from keras_dl.release.registry import Registered
from keras_dl.serving.export.expected import answer
from keras_dl.serving.export.staging import check_writable
from keras_dl.tracking.journal import Delivery
from keras_dl.tracking.runs import connect, log_origin, open_run, reap
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.system_metrics import measure
from keras_dl.training.hardware import build, hardware
from keras_dl.tuning.distributed.address import check_free, parse_address
from keras_dl.tuning.distributed.client import ChiefClient
from keras_dl.tuning.distributed.exchange import Exchange
from keras_dl.tuning.distributed.serve_search import serve_search
from keras_dl.tuning.distributed.worker import is_shared
from keras_dl.tuning.oracles import Watch, make_oracle
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.report.live_table import SearchTable
from keras_dl.tuning.report.outcome import log_outcome, write_report
from keras_dl.tuning.results import last_value
from keras_dl.tuning.tuner import TrialTuner, discard_checkpoints, run_name
from keras_dl.tuning.unfinished import throw_away, unfinished

# What a search of small models may write before anybody would notice that the disk is full.
FREE_BYTES = 100_000_000


def search(pipeline: Pipeline, settings: Settings, plan: Plan | None = None) -> Registered:
    """Searches the pipeline's space, then publishes the best trial's model.

    The state lies in `searches/<name>/` beside `mlflow.yaml` until the best model is registered: killed at any moment,
    the same call goes on with every finished trial, every finished epoch and the same MLflow runs.

    Args:
        pipeline: from `load_pipeline`.
        settings: of `mlflow.yaml`.
        plan: `Plan`. Defaults to `Plan()`.

    Raises:
        UserError: before any trial, for pins outside the space, a space with nothing to search, an empty split, an
            unusable store, registry or folder, a full disk, an unfinished search of other arguments; at the end, if
            every trial failed.
    """
    plan = plan or Plan()
    folder = settings.root / "searches" / pipeline.name
    if plan.chief:
        check_free(*parse_address(plan.chief))
    check_writable(settings.saved_models)
    check_writable(folder.parent)
    check_space(folder.parent, FREE_BYTES)
    connect(settings, pipeline.name)
    check_registry(settings, pipeline.name)
    try:
        with filelock.FileLock(f"{folder}.lock", timeout=0):
            return _search(pipeline, settings, plan, folder)
    except filelock.Timeout:
        raise UserError(f"another search of {pipeline.name} is running in {folder}: wait for it, or stop it") from None
    except OSError as error:
        if exhausted(error) is None:
            raise
        raise UserError(f"{exhausted(error)}: {error.filename}. Every finished trial is kept in {folder}") from error


def _search(pipeline, settings, plan, folder):
    with hardware(pipeline):
        found = _pinned(space(pipeline, plan.pins), plan.pins)
        combinations = plan.check_trials(found)
        answer(pipeline, build(pipeline, found, pipeline.seed), example_request(pipeline, found.values))
    trials = plan.trials or min(pipeline.trials, combinations or pipeline.trials)
    arguments = plan.arguments(pipeline, trials, found.space)
    if plan.fresh:
        throw_away(folder)  # now that all that was asked for is possible
    earlier, changed = unfinished(folder, arguments, plan.resume)

    fixed = kt.HyperParameters()
    for pin, value in plan.pins.items():
        fixed.Fixed(pin, value)
    oracle = make_oracle(plan.tuner, pipeline.improves, trials, pipeline.epochs, pipeline.seed, fixed)
    oracle.early_stopping, oracle.max_time = plan.early_stop, plan.max_time
    objective = oracle.objective
    table = SearchTable(objective.name, objective.direction, trials, pipeline.epochs, workers=plan.workers)
    tags = {"kind": "search", "tuner": plan.tuner}
    tags |= {"objective": oracle.objective.name, "direction": oracle.objective.direction}
    with open_run(settings, f"search-{plan.tuner}", tags, earlier.get("run_id")) as run:
        run_id = run.info.run_id
        reap(run.info.experiment_id, but={run_id})
        folder.mkdir(parents=True, exist_ok=True)
        record = {"search": earlier.get("search", uuid.uuid4().hex), "arguments": arguments, "run_id": run_id}
        write_json(folder / "search.json", record)
        log_origin(pipeline)  # also of a search that goes on: the file may have changed
        if run_id != earlier.get("run_id"):  # somebody may have deleted that one
            mlflow.log_params({key: value for key, value in arguments.items() if key not in ("space", "pipeline")})
            mlflow.log_text("\n".join(arguments["space"]) + "\n", "space.txt")
        with Delivery(settings, run.info.experiment_id) as delivery:
            delivery.adopt(folder, run_id)
            with hardware(pipeline):
                tuner = TrialTuner(pipeline, oracle, folder, delivery, run_id, plan.executions)
            if "pipeline" in changed:
                _check_models(tuner, oracle)
            oracle.hyperparameters, oracle.max_trials = _merged(oracle.hyperparameters, found), trials
            _run(tuner, pipeline, oracle, table, plan, folder, record)
            delivery.adopt(folder, run_id)  # of workers that are gone
        if not delivery.delivered:
            raise UserError(
                f"the store {settings.tracking_uri} does not answer, so the best model cannot be registered yet. All "
                "trials are done and kept: the same command goes on from here when the store is back"
            )
        best = log_outcome(pipeline, oracle, found, run_id)
        if best is None:
            remove_folder(folder)  # nothing to go on from: the same call begins anew
            if not oracle.end_order:
                raise UserError(f"no trial began in --max-time, {plan.max_time:g} seconds: give the search more")
            trial = oracle.trials[oracle.end_order[-1]]
            reason = (trial.message or "").strip().splitlines()[-1]
            raise UserError(
                f"all {len(oracle.trials)} trials failed; the last one: {reason}. Their runs hold the tracebacks"
            )
        if plan.chief:
            Exchange(run.info.experiment_id, run_id).fetch(best.trial_id, tuner.trial_folder(best.trial_id))
        model = tuner.load_model(best)
        values = best.hyperparameters.values
        before = registry.find_version(pipeline.name, settings.registry.champion)
        # Of several metrics the spread is that of their sum, and says nothing of the one that champions are judged by.
        spread = last_value(best, "spread") if len(pipeline.improves.terms) == 1 else None
        version = publish(pipeline, model, values, settings, spread=spread)
        write_report(pipeline, settings, oracle, found, version, before)
        try:
            export_champion(pipeline, model, values, version, settings, plan.keep)
        except UserError:
            remove_folder(folder)  # the model is safe, and the message says how to export it
            raise
        remove_folder(folder)
        return version


def _check_models(tuner, oracle):
    """Raises UserError if the best model so far cannot be built any more, by the file as it is now."""
    best = oracle.get_best_trials(1)
    if best and best[0].status == "COMPLETED":
        try:
            tuner.load_model(best[0])
        except (ValueError, OSError) as error:
            raise UserError(
                f"the model of {run_name(best[0].trial_id)}, the best so far, is of another structure than the "
                "pipeline's file builds now: put the file back as it was, or give --fresh"
            ) from error


def _run(tuner, pipeline, oracle, table, plan, folder, record):
    """Runs the trials that are left, here or on workers."""
    oracle.watch = table if plan.tuner == "hyperband" else _Tidy(table, oracle, folder)
    with table:
        table.resume([oracle.trials[trial_id] for trial_id in oracle.start_order])
        try:
            if plan.workers or plan.chief:
                serve_search(oracle, pipeline, record, folder, plan.workers, plan.chief)
                return
            for name in set(oracle.ongoing_trials) - {tuner.tuner_id}:
                oracle.release(name)  # of workers that an earlier process had
            tuner.search()
        except kt.errors.FatalError as error:
            if not oracle.end_order and not isinstance(error.__cause__, OSError):
                tuner.delivery.flush(60)  # the journal of the trial lies there too
                remove_folder(folder)  # nothing to go on from
            cause = error.__cause__
            raise cause if isinstance(cause, UserError) else UserError(str(error)) from error


class _Tidy(Watch):
    """Keeps no checkpoint but those of the best trial and the running ones; any trial of Hyperband may be promoted."""

    def __init__(self, table, oracle, folder):
        self.table, self.oracle, self.folder = table, oracle, folder
        self.begin, self.epoch = table.begin, table.epoch

    def end(self, trial):
        self.table.end(trial)
        running = {trial_id for trial_id in self.oracle.start_order if trial_id not in self.oracle.end_order}
        discard_checkpoints(self.folder, {*running, self.oracle.get_best_trials(1)[0].trial_id})


def run_worker(pipeline: Pipeline, settings: Settings, client: ChiefClient, folder: Path, facts: dict) -> None:
    """Runs trials of a chief until there are none left.

    Args:
        pipeline: the same as the chief's, with its options.
        settings: of this machine.
        client: `ChiefClient`.
        folder: of the search's state: the chief's, or this machine's own.
        facts: what the chief told of the search.
    """
    connect(settings, pipeline.name)
    run_id, experiment_id = facts["run_id"], mlflow.get_run(facts["run_id"]).info.experiment_id
    exchange = None if is_shared(folder, facts["search"]) else Exchange(experiment_id, run_id)
    with Delivery(settings, experiment_id) as delivery, measure(run_id, settings, client.name):
        if exchange:
            delivery.adopt(folder, run_id)  # of a worker that had this folder before; a chief looks after its own
        executions = facts["arguments"]["executions"]
        TrialTuner(pipeline, client, folder, delivery, run_id, executions, client.name, True, exchange).search()


def _pinned(found, pins):
    """The space in which the pinned values are no longer searched."""
    pinned = kt.HyperParameters()
    for name, value in pins.items():
        pinned.Fixed(name, value)
    pinned.merge([entry for entry in found.space if entry.name not in pins])
    return pinned


def _merged(kept, found):
    """The space that a search goes on in: as it is found now, with what trials have added to it."""
    merged = kt.HyperParameters()
    merged.merge([entry for entry in found.space])
    merged.merge([entry for entry in kept.space if not merged._exists(entry.name, entry.conditions)])
    return merged
