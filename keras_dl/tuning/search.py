"""Searches a pipeline's space and publishes the best model; tracked and resumable."""

import contextlib
import dataclasses
import uuid
from pathlib import Path

import keras_tuner as kt
import mlflow

from keras_dl import durable
from keras_dl.compat.keras_tuner import add_missing_entries
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.release import registry
from keras_dl.release.registry import Registered
from keras_dl.tracking.journal import Delivery
from keras_dl.tracking.names import KERAS_TUNER
from keras_dl.tracking.runs import log_origin, open_run, reap
from keras_dl.tracking.settings import Settings
from keras_dl.training.configuration import hardware
from keras_dl.training.job import check_delivered, check_space, exclusive_job, release
from keras_dl.tuning.distributed.chief import serve_search
from keras_dl.tuning.distributed.exchange import Exchange
from keras_dl.tuning.distributed.workers import check_free, parse_address
from keras_dl.tuning.oracles import Watch, make_oracle
from keras_dl.tuning.plan import Plan, discard, unfinished
from keras_dl.tuning.report.outcome import log_outcome, write_report
from keras_dl.tuning.report.tables import SearchTable
from keras_dl.tuning.results import SPREAD, last_value
from keras_dl.tuning.tuner import TrialTuner, discard_checkpoints, run_name

# A search of small models may write this much before anyone notices a full disk.
FREE_BYTES = 100_000_000


def search(pipeline: Pipeline, settings: Settings, plan: Plan | None = None) -> Registered:
    """Searches the pipeline's space, then publishes the model of the best trial.

    The state is stored in `searches/<name>/` next to `mlflow.yaml` until the best model is registered. If the process
    is killed, the same call resumes with every finished trial, every finished epoch and the same MLflow runs.

    Raises:
        UserError: before any trial, for pins outside the space, a space with nothing to search, an empty split, a
            store, registry or folder that cannot be written, a full disk, or an unfinished search with different
            arguments; at the end, if every trial failed.
    """
    plan = plan or Plan()
    folder = settings.root / "searches" / pipeline.name
    if plan.chief:
        check_free(*parse_address(plan.chief))
    with exclusive_job(pipeline, settings, folder, "search", "trial"):
        durable.check_space(folder.parent, FREE_BYTES)
        this = _Search(pipeline, settings, plan, folder)
        with this.open_run():
            this.run_trials()
            best = this.best_trial()
            return this.release(best)


class _Search:
    """One search, new or resumed, in its locked folder.

    Attributes:
        found: `keras_tuner.HyperParameters`, the space without the pinned entries.
        oracle: from `make_oracle`.
        earlier: the record of an unfinished search that this one resumes; {} if there is none.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, plan: Plan, folder: Path):
        found = check_space(pipeline, plan.pins)
        plan = dataclasses.replace(plan, pins=found.given)
        self.pipeline, self.settings, self.plan, self.folder = pipeline, settings, plan, folder
        fixed = kt.HyperParameters()
        for name, value in plan.pins.items():
            fixed.Fixed(name, value)
        self.found = fixed.copy()
        self.found.merge([entry for entry in found.space if entry.name not in plan.pins])
        combinations = plan.check_trials(self.found)
        self.trials = plan.trials or min(pipeline.trials, combinations or pipeline.trials)
        self.arguments = plan.arguments(pipeline, self.trials, self.found.space)
        if plan.fresh:
            discard(folder)  # only now that every argument is known to be valid
        self.earlier, self.changed = unfinished(folder, self.arguments, plan.resume)
        self.oracle = make_oracle(plan.tuner, pipeline.goal, self.trials, pipeline.epochs, pipeline.seed, fixed)
        self.oracle.early_stopping, self.oracle.max_time = plan.early_stop, plan.max_time

    @contextlib.contextmanager
    def open_run(self):
        """Opens the MLflow run of the search and writes the record from which the search can be resumed."""
        objective = self.oracle.objective
        tags = {"kind": "search", "tuner": self.plan.tuner}
        tags |= {"objective": objective.name, "direction": objective.direction}
        name, earlier_run = f"search-{self.plan.tuner}", self.earlier.get("run_id")
        with open_run(self.settings, name, tags, earlier_run) as run:
            self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
            reap(self.experiment_id, but={self.run_id})
            self.folder.mkdir(parents=True, exist_ok=True)
            search_id = self.earlier.get("search", uuid.uuid4().hex)
            self.record = {"search": search_id, "arguments": self.arguments, "run_id": self.run_id}
            durable.write_json(self.folder / "search.json", self.record)
            log_origin(self.pipeline)  # of a resumed search too: the file may have changed
            if self.run_id != earlier_run:  # new, or deleted in the meantime
                params = {key: value for key, value in self.arguments.items() if key not in ("space", "pipeline")}
                mlflow.log_params(params)
                mlflow.log_text("\n".join(self.arguments["space"]) + "\n", "space.txt")
            yield

    def run_trials(self) -> None:
        """Runs the remaining trials, here or in workers, and delivers their records to the store."""
        plan, oracle = self.plan, self.oracle
        with Delivery(self.settings, self.experiment_id) as delivery:
            delivery.adopt(self.folder, self.run_id)
            with hardware(self.pipeline):
                self.tuner = TrialTuner(self.pipeline, oracle, self.folder, delivery, self.run_id, plan.executions)
            if "pipeline" in self.changed:
                self._check_best_model()
            oracle.hyperparameters = add_missing_entries(self.found, oracle.hyperparameters)
            oracle.max_trials = self.trials
            objective = oracle.objective
            names = (objective.name, objective.direction)
            space = [entry for entry in oracle.hyperparameters.space if not entry.name.startswith(KERAS_TUNER)]
            with SearchTable(*names, self.trials, self.pipeline.epochs, workers=plan.workers, space=space) as table:
                oracle.watch = table if plan.tuner == "hyperband" else _Tidy(table, oracle, self.folder)
                table.resume([oracle.trials[trial_id] for trial_id in oracle.start_order])
                try:
                    self._run_remaining()
                except kt.errors.FatalError as error:
                    if not oracle.end_order and not isinstance(error.__cause__, OSError):
                        delivery.flush(60)  # the folder holds the trial's journal too
                        durable.remove_folder(self.folder)  # there is nothing to resume
                    cause = error.__cause__
                    raise cause if isinstance(cause, UserError) else UserError(str(error)) from error
            delivery.adopt(self.folder, self.run_id)  # records of workers that have ended
        check_delivered(delivery, self.settings, "All trials are")

    def _run_remaining(self):
        if self.plan.workers or self.plan.chief:
            serve_search(self.oracle, self.pipeline, self.record, self.folder, self.plan.workers, self.plan.chief)
            return
        for name in set(self.oracle.ongoing_trials) - {self.tuner.tuner_id}:
            self.oracle.release(name)  # workers of an earlier process
        self.tuner.search()

    def _check_best_model(self):
        """Raises UserError if the changed pipeline file can no longer build the best model so far."""
        best = self.oracle.get_best_trials(1)
        if best and best[0].status == "COMPLETED":
            try:
                self.tuner.load_model(best[0])
            except (ValueError, OSError) as error:
                raise UserError(
                    f"the model of {run_name(best[0].trial_id)}, the best so far, differs in structure from the one "
                    "the pipeline's file builds now: restore the file, or use --fresh"
                ) from error

    def best_trial(self) -> kt.engine.trial.Trial:
        """Logs and prints the results of all trials and returns the best; UserError if every trial failed or none
        started.
        """
        best = log_outcome(self.pipeline, self.oracle, self.found, self.run_id)
        if best is None:
            durable.remove_folder(self.folder)  # there is nothing to resume
            if not self.oracle.end_order:
                limit = f"--max-time, {self.plan.max_time:g} seconds"
                raise UserError(f"no trial started within {limit}: give the search more time")
            message = self.oracle.trials[self.oracle.end_order[-1]].message or ""
            raise UserError(
                f"all {len(self.oracle.trials)} trials failed; the last one: {message.strip().splitlines()[-1]}. Their "
                "runs contain the tracebacks"
            )
        return best

    def release(self, best) -> Registered:
        """Publishes and exports the model of the best trial, and writes the report of the search."""
        pipeline, settings = self.pipeline, self.settings
        if self.plan.chief:
            Exchange(self.experiment_id, self.run_id).fetch(best.trial_id, self.tuner.trial_folder(best.trial_id))
        champion = registry.find_version(pipeline.name, settings.registry.champion)
        # The spread of several metrics is that of their sum, not of the metric by which champions are compared.
        spread = last_value(best, SPREAD) if len(pipeline.goal.terms) == 1 else None
        return release(
            pipeline,
            self.tuner.load_model(best),
            best.hyperparameters.values,
            settings,
            self.folder,
            self.plan.keep,
            spread,
            report=lambda version: write_report(pipeline, settings, self.oracle, self.found, version, champion),
        )


class _Tidy(Watch):
    """Removes the checkpoints of all trials except the best and the running ones; Hyperband may promote any trial."""

    def __init__(self, table, oracle, folder):
        self.table, self.oracle, self.folder = table, oracle, folder
        self.begin, self.epoch = table.begin, table.epoch

    def end(self, trial):
        self.table.end(trial)
        running = {trial_id for trial_id in self.oracle.start_order if trial_id not in self.oracle.end_order}
        discard_checkpoints(self.folder, {*running, self.oracle.get_best_trials(1)[0].trial_id})
