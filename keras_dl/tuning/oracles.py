"""Keras Tuner's four search strategies; each can be killed at any moment and resumed."""

import math
import statistics
import time

import keras_tuner as kt
import numpy as np

from keras_dl.compat.keras_tuner import MetricObservation, Stateful, Trial, ids_in_order, synchronized
from keras_dl.errors import UserError
from keras_dl.tuning.results import SCORE

NAMES = ("random", "bayesian", "hyperband", "grid")
EARLY_STOPPING = ("median", "halving")
# The number of other trials that must have reached the epoch before a trial is compared with them.
AT_LEAST = 3
FACTOR = 3


class Watch:
    """Receives the events of an oracle's trials, while the oracle's lock is held; this class ignores them."""

    def begin(self, trial, worker=None):
        """A trial started or was resumed."""

    def epoch(self, trial_id, number, score):
        """A trial finished an epoch, counted from 1."""

    def end(self, trial):
        """A trial completed or failed."""


class _Durable:
    """Mixin that changes how Keras Tuner's oracles save their state and end their trials.

    The state of the oracle and of all trials is one file, written atomically, so a kill never leaves one without the
    other. After `reload`, a worker that asks again under the same name gets its trial back. Trials report every epoch
    and can be stopped early.

    Attributes:
        watch: `Watch`, called for every event.
        early_stopping: None (default), `"median"` or `"halving"` (see `should_stop`).
        max_time: float, seconds of the whole search in all its processes, after which no trial starts and running
            trials end after their current epoch; None (default) for no limit.
    """

    watch = Watch()
    early_stopping = None
    max_time = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.began, self.spent_before = time.monotonic(), 0.0

    @property
    def spent(self) -> float:
        """The seconds that the search has taken so far, over all its processes."""
        return self.spent_before + time.monotonic() - self.began

    @synchronized
    def create_trial(self, tuner_id):
        again = tuner_id in self.ongoing_trials
        if not again and not self._retry_queue and self._out_of_time():
            self.tuner_ids.discard(tuner_id)
            return Trial(self.get_space(), status="STOPPED")
        self.tuner_ids.add(tuner_id)
        trial = super().create_trial(tuner_id)
        if trial.status == "RUNNING":
            self.watch.begin(trial, tuner_id)
        return trial

    @synchronized
    def update_trial(self, trial_id, metrics, step=0):
        """Records the metrics of an epoch; the status of the returned trial is STOPPED if the trial should end."""
        trial = self.trials[trial_id]
        if trial_id in self.end_order:
            return Trial(trial.hyperparameters, trial_id, "STOPPED")
        for name, value in metrics.items():
            if not trial.metrics.exists(name):
                trial.metrics.register(name, self.objective.direction)
            # Replaced, not appended: a trial that is resumed after a kill reports its epochs again.
            trial.metrics.metrics[name]._observations[step] = MetricObservation(float(value), step)
        stop = self._out_of_time()
        if self.objective.name in metrics and SCORE not in metrics:  # an epoch, not the final report
            self.watch.epoch(trial_id, step + 1, metrics[self.objective.name])
            stop = should_stop(self.early_stopping, self, trial, step) or stop
        return Trial(trial.hyperparameters, trial_id, "STOPPED" if stop else "RUNNING")

    @synchronized
    def end_trial(self, trial):
        """Ends a running trial; a trial that has ended is left unchanged."""
        known = self.trials[trial.trial_id]
        if known.trial_id in self.end_order:
            return
        known.hyperparameters, known.message = trial.hyperparameters, trial.message
        known.status = "COMPLETED" if trial.status == "COMPLETED" else "FAILED"
        self.update_space(known.hyperparameters)
        if known.status == "COMPLETED":
            self.score_trial(known)
            if known.score is None or math.isnan(known.score):
                known.status, known.message = "FAILED", f"{self.objective.name} is {known.score}"
        self._record_values(known)
        self._run_times[known.trial_id] += 1
        self.end_order.append(known.trial_id)
        self.release_trial(known.trial_id)
        self._retry_queue = [trial_id for trial_id in self._retry_queue if trial_id != known.trial_id]
        self._ended(known)
        self.save()
        self.watch.end(known)

    def _ended(self, trial):
        pass

    def release_trial(self, trial_id):
        self.ongoing_trials = {k: trial for k, trial in self.ongoing_trials.items() if trial.trial_id != trial_id}

    @synchronized
    def release(self, tuner_id):
        """Puts the trial of a lost worker back into the queue; the next worker that asks gets it."""
        trial = self.ongoing_trials.pop(tuner_id, None)
        self.tuner_ids.discard(tuner_id)
        if trial is not None:
            self._retry_queue.append(trial.trial_id)
            self.save()

    def score_trial(self, trial):
        """Takes the score that the trial reported at its end: the best epoch's objective, averaged over executions."""
        trial.score, trial.best_step = None, 0
        if trial.metrics.exists(SCORE):
            (observation,) = trial.metrics.get_history(SCORE)[-1:]
            trial.score, trial.best_step = observation.value[0], observation.step

    def _out_of_time(self):
        return self.max_time is not None and self.spent >= self.max_time

    def get_state(self):
        trials = {trial_id: trial.get_state() for trial_id, trial in self.trials.items()}
        return {**super().get_state(), "trials": trials, "spent": self.spent}

    def set_state(self, state):
        self.trials = {trial_id: Trial.from_state(kept) for trial_id, kept in state["trials"].items()}
        super().set_state(state)
        self.began, self.spent_before = time.monotonic(), state["spent"]

    def reload(self):
        # The oracle's own `reload` would read each trial from a separate file.
        Stateful.reload(self, self._get_oracle_fname())

    def _save_trial(self, trial):
        pass


class _DefaultsFirst(_Durable):
    """Mixin whose first trial uses the defaults, so that the best trial is at least as good as they are."""

    def populate_space(self, trial_id):
        if self.start_order:
            return super().populate_space(trial_id)
        space = self.get_space()
        values = {entry.name: entry.default for entry in space.space if space.is_active(entry)}
        return {"status": "RUNNING", "values": values}


class RandomOracle(_DefaultsFirst, kt.oracles.RandomSearchOracle):
    """Random search (Bergstra and Bengio 2012)."""


class BayesianOracle(_DefaultsFirst, kt.oracles.BayesianOptimizationOracle):
    """Gaussian process with an upper confidence bound (Snoek et al. 2012).

    Keras Tuner's oracle keeps its random state and its fitted process only in memory. Here, each proposal starts from a
    fresh random state and a fresh fit, so a resumed search proposes the same values as an uninterrupted one.
    """

    def populate_space(self, trial_id):
        self._random_state = np.random.RandomState(self.seed + len(self.start_order))
        return super().populate_space(trial_id)

    def _vectorize_trials(self):
        if self.ongoing_trials:  # their scores are predicted by a process fitted to the completed trials
            everything = self.trials
            self.trials = {key: trial for key, trial in everything.items() if trial.status == "COMPLETED"}
            try:
                self.gpr.fit(*super()._vectorize_trials())
            finally:
                self.trials = everything
        return super()._vectorize_trials()


class HyperbandOracle(_Durable, kt.oracles.HyperbandOracle):
    """Successive halving in brackets with increasing numbers of epochs (Li et al. 2018)."""


class GridOracle(_Durable, kt.oracles.GridSearchOracle):
    """Tries every combination, the defaults first. Their order, which Keras Tuner keeps only in memory, is saved."""

    def _ended(self, trial):
        self._populate_next.append(trial.trial_id)

    def get_state(self):
        order = ids_in_order(self._ordered_ids)
        return {**super().get_state(), "ordered_ids": order, "populate_next": list(self._populate_next)}

    def set_state(self, state):
        super().set_state(state)
        self._ordered_ids = type(self._ordered_ids)()
        for trial_id in state["ordered_ids"]:
            self._ordered_ids.insert(trial_id)
        self._populate_next = list(state["populate_next"])


def make_oracle(name: str, objective: kt.Objective, trials: int, epochs: int, seed: int, hp: kt.HyperParameters):
    """Returns the oracle of this name, one of `NAMES`, with the pinned values `hp`, as `Fixed`.

    Hyperband may end before the maximum number of trials, at the end of its brackets, and starts with fewer epochs than
    those of a full training run. The oracle gets `seed + 1`, because Keras Tuner replaces 0 with a random seed.
    """
    common = dict(objective=objective, hyperparameters=hp, seed=seed + 1, max_consecutive_failed_trials=trials + 1)
    if name == "hyperband":
        oracle = HyperbandOracle(max_epochs=epochs, **common)
        oracle.max_trials = trials
    else:
        kind = {"random": RandomOracle, "bayesian": BayesianOracle, "grid": GridOracle}[name]
        oracle = kind(max_trials=trials, **common)
    oracle.verbose = 0
    return oracle


def combinations(hp: kt.HyperParameters) -> int | None:
    """Returns the number of trials of a grid over this space; None if some hyperparameters depend on others."""
    searched = [entry for entry in hp.space if _count(entry) > 1]
    if not searched:
        known = ", ".join(entry.name for entry in hp.space) or "none"
        raise UserError(
            f"there is nothing to search: every hyperparameter has a single value ({known}). Train once with keras-dl "
            "train, or do not set every value"
        )
    if any(entry.conditions for entry in hp.space):
        return None
    return math.prod(_count(entry) for entry in searched)


def _count(entry):
    """Returns the number of values of a hyperparameter in a grid."""
    if type(entry).__name__ == "Fixed":
        return 1
    if type(entry).__name__ == "Int" and entry.sampling == "linear" and entry.step:  # the list may not fit in memory
        return (entry.max_value - entry.min_value) // entry.step + 1
    return len(list(entry.values))


def should_stop(rule: str | None, oracle, trial, step: int) -> bool:
    """Decides whether a trial should stop after this epoch, counted from 0.

    `"median"` (Golovin et al. 2017, section 3.2.2) stops a trial whose best objective so far is worse than the median
    of the other trials' means over the same epochs. `"halving"` (ASHA, Li et al. 2020) continues, after 1, 3, 9, ...
    epochs, only the better third of all trials that reached that epoch. Both require at least three other trials.
    Without a rule, no trial is stopped.
    """
    if rule is None:
        return False
    name, sign = oracle.objective.name, 1 if oracle.objective.direction == "min" else -1

    def curve(of):
        if not of.metrics.exists(name):
            return []
        points = (point for point in of.metrics.get_history(name) if point.step <= step)
        return [sign * point.value[0] for point in points if math.isfinite(point.value[0])]

    def reached(of):
        return of.metrics.exists(name) and any(point.step >= step for point in of.metrics.get_history(name))

    # Failed trials, and trials in a lower rung of Hyperband, have not reached every epoch.
    others = [curve(other) for other in oracle.trials.values() if other is not trial and reached(other)]
    others = [points for points in others if points]
    own = curve(trial)
    if len(others) < AT_LEAST or not own:
        return False
    if rule == "median":
        return min(own) > statistics.median(statistics.fmean(points) for points in others)
    epochs = step + 1
    if FACTOR ** round(math.log(epochs, FACTOR)) != epochs:
        return False
    ranked = sorted(min(points) for points in [*others, own])
    return min(own) > ranked[max(len(ranked) // FACTOR, 1) - 1]
