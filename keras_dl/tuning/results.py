"""The results of a search, read from its oracle: the data of the leaderboard, the report and the pictures."""

import dataclasses
import math

import numpy as np

from keras_dl.errors import UserError
from keras_dl.tracking.names import KERAS_TUNER

# What a trial reports at its end, among its metrics; a model may have a metric called "score".
SCORE, SPREAD, SECONDS, STOPPED = (f"keras_dl/{name}" for name in ("score", "spread", "seconds", "stopped"))


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """The result of one trial.

    Args:
        number: int, from 1, as in the table of the search and in the names of the runs.
        trial_id: str, Keras Tuner's id.
        values: dictionary of hyperparameters, without those that Keras Tuner adds (such as `tuner/epochs`).
        status: `"COMPLETED"`, `"FAILED"` or `"RUNNING"`.
        score: float, the mean objective over the executions; None unless completed.
        spread: float, the standard deviation of the objective over the executions; None for one execution.
        seconds: float, the duration of the trial; None if unknown.
        best_epoch: int, from 1; None unless completed.
        curve: tuple of float, the objective of each epoch.
        first_epoch: int, the first epoch of the curve, from 1; later for a trial that Hyperband promoted.
        metrics: dictionary of the metrics at the best epoch, including the objective.
        message: str, the traceback of a failed trial; None otherwise.
        run_id: str, the MLflow run; None if unknown.
    """

    number: int
    trial_id: str
    values: dict
    status: str
    score: float | None = None
    spread: float | None = None
    seconds: float | None = None
    best_epoch: int | None = None
    curve: tuple[float, ...] = ()
    first_epoch: int = 1
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    message: str | None = None
    run_id: str | None = None

    @property
    def completed(self) -> bool:
        """Whether the trial has a finite score."""
        return self.status == "COMPLETED" and self.score is not None and math.isfinite(self.score)

    @property
    def shown_score(self) -> str:
        """The score as text, with its spread if there is one: `0.0249 ± 0.0031`."""
        return number(self.score) + (f" ± {self.spread:.2g}" if self.spread else "")


def results(oracle, run_ids: dict[str, str] | None = None) -> list[TrialResult]:
    """Returns the trials of an oracle in the order in which they started.

    The metrics of a trial contain the objective of each epoch, `SCORE`, `SPREAD`, `SECONDS`, and other metrics at the
    best epoch. `run_ids` maps trials to their MLflow runs.
    """
    run_ids = run_ids or {}
    return [_result(oracle.trials[one], oracle.objective.name, run_ids.get(one)) for one in oracle.start_order]


def shown_values(trial) -> dict:
    """Returns the hyperparameters of a trial, without those that Keras Tuner adds."""
    values = trial.hyperparameters.values
    return {name: value for name, value in values.items() if not name.startswith(KERAS_TUNER)}


def last_value(trial, name: str) -> float | None:
    """Returns the last value that a Keras Tuner trial reported for a metric; None if there is none."""
    history = trial.metrics.get_history(name) if trial.metrics.exists(name) else []
    return float(history[-1].value[0]) if history else None


def _result(trial, objective, run_id):
    curve = trial.metrics.get_history(objective) if trial.metrics.exists(objective) else []
    completed = trial.status == "COMPLETED"
    separate = (objective, SCORE, SPREAD, SECONDS, STOPPED)
    metrics = {name: last_value(trial, name) for name in trial.metrics.metrics if name not in separate}
    if completed and trial.score is not None:
        metrics[objective] = float(trial.score)
    return TrialResult(
        number=int(trial.trial_id) + 1,
        trial_id=trial.trial_id,
        values=shown_values(trial),
        status=trial.status,
        score=float(trial.score) if completed and trial.score is not None else None,
        spread=last_value(trial, SPREAD) if completed else None,
        seconds=last_value(trial, SECONDS),
        best_epoch=trial.best_step + 1 if completed else None,
        curve=tuple(float(point.value[0]) for point in curve),
        first_epoch=curve[0].step + 1 if curve else 1,
        metrics={name: value for name, value in metrics.items() if value is not None},
        message=trial.message,
        run_id=run_id,
    )


def leaderboard(results: list[TrialResult], direction: str) -> list[TrialResult]:
    """Returns the completed trials, best first; the earlier of two equal trials first."""
    sign = _sign(direction)
    return sorted((one for one in results if one.completed), key=lambda one: sign * one.score)


def pareto(results: list[TrialResult], directions: dict[str, str]) -> list[TrialResult]:
    """Returns the Pareto front: the completed trials that no other trial dominates, in the order in which they started.

    Trials without a finite value for each metric of `{metric: "min" or "max"}` are left out. UserError is raised if no
    completed trial has one of the metrics.
    """
    completed = [one for one in results if one.completed]
    known = sorted({name for one in completed for name in one.metrics})
    missing = [name for name in directions if name not in known]
    if completed and missing:
        raise UserError(f"no trial reported {', '.join(missing)}. Available: {', '.join(known)}")
    judged = [one for one in completed if all(math.isfinite(one.metrics.get(name, math.nan)) for name in directions)]
    signs = np.array([_sign(direction) for direction in directions.values()])
    points = np.array([[one.metrics[name] for name in directions] for one in judged]).reshape(-1, len(signs)) * signs
    no_worse = (points[None] <= points[:, None]).all(-1)  # [this, other]
    better = (points[None] < points[:, None]).any(-1)
    beaten = (no_worse & better).any(1)
    return [one for one, lost in zip(judged, beaten, strict=True) if not lost]


def searched(results: list[TrialResult]) -> list[str]:
    """Returns the names of the hyperparameters that differ between trials, in the order of the space."""
    names = dict.fromkeys(name for one in results for name in one.values)
    return [name for name in names if len({repr(one.values.get(name)) for one in results}) > 1]


def _sign(direction):
    if direction not in ("min", "max"):
        raise UserError(f"expected a direction 'min' or 'max'. Received: {direction!r}")
    return 1 if direction == "min" else -1


def number(value) -> str:
    """Formats a score or a hyperparameter: four significant digits of a float, `-` for None.

    >>> number(0.123456), number(64), number("lstm"), number(None)
    ('0.1235', '64', 'lstm', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float | None) -> str:
    """Formats seconds as `minutes:seconds` or `hours:minutes:seconds`.

    >>> clock(61), clock(3600), clock(None)
    ('1:01', '1:00:00', '-')
    """
    if seconds is None:
        return "-"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def last_line(message: str | None) -> str:
    """Returns the last line of a traceback, which is the error itself."""
    return (message or "").strip().rpartition("\n")[2].strip()
