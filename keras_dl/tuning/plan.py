"""What a search is asked to do, and what of it may change when an unfinished one goes on."""

import dataclasses
import re

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline, describe
from keras_dl.tuning import early_stopping, oracles
from keras_dl.tuning.distributed.address import parse_address

# A search may go on with these changed: its finished trials stay comparable.
CHANGEABLE = ("trials", "early_stop", "max_time", "space", "pipeline")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The options of `keras-dl tune` that are not the pipeline's own.

    Args:
        tuner: `"random"` (default), `"bayesian"`, `"hyperband"` or `"grid"`.
        trials: int, how many at most; None (default) takes the pipeline's, of a grid no more than it has combinations.
        pins: hyperparameters that are not searched, with their values.
        executions: int, trainings a trial, each from other initial weights; the score is their mean. Defaults to 1.
        early_stop: `"median"` or `"halving"`, see `should_stop`; None (default) trains every trial to its end.
        max_time: float, seconds after which no trial begins and running ones end with their epoch; None: no limit.
        resume: go on with an unfinished search although `CHANGEABLE` arguments differ. Defaults to False.
        fresh: throw an unfinished search away. Defaults to False.
        keep: int, exports of this model to keep beside the champion's; None (default) keeps all.
        workers: int, worker processes on this machine; 0 (default) runs the trials in this process.
        chief: `"HOST:PORT"` to serve workers of other machines at; None (default) serves none.
    """

    tuner: str = "random"
    trials: int | None = None
    pins: dict = dataclasses.field(default_factory=dict)
    executions: int = 1
    early_stop: str | None = None
    max_time: float | None = None
    resume: bool = False
    fresh: bool = False
    keep: int | None = None
    workers: int = 0
    chief: str | None = None

    def __post_init__(self):
        for name, known in (("tuner", oracles.NAMES), ("early_stop", (None, *early_stopping.NAMES))):
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name} must be one of {', '.join(map(str, known))}. Received: {getattr(self, name)!r}"
                )
        for name, least in (("trials", 1), ("executions", 1), ("keep", 1), ("workers", 0)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}. Received: {getattr(self, name)}")
        if self.tuner == "hyperband" and self.executions > 1:
            raise UserError("hyperband goes on with single trainings: expected executions 1, or another tuner")
        if self.chief:
            parse_address(self.chief)  # for its errors

    def arguments(self, pipeline: Pipeline, trials: int, space: list) -> dict:
        """What makes this search the one it is, JSON-able."""
        own = {name: getattr(self, name) for name in ("tuner", "pins", "executions", "early_stop", "max_time")}
        theirs = ("epochs", "seed", "objective", "precision", "strategy", "jit", "deterministic")
        return {
            **own,
            "trials": trials,
            **{name: getattr(pipeline, name) for name in theirs},
            "data": pipeline.source,
            "space": [describe(entry) for entry in space],
            "pipeline": pipeline.digest,
        }

    def check_trials(self, found) -> int | None:
        """The trials of a grid over this space, if it can be told how many it has.

        Raises:
            UserError: if more were asked for than there are, or there is nothing to search.
        """
        count = oracles.combinations(found)
        if self.tuner == "grid" and count is not None and self.trials and self.trials > count:
            raise UserError(
                f"the grid has {count} combinations; expected --trials of at most that. Received: {self.trials}"
            )
        return count if self.tuner == "grid" else None


def seconds(text: str) -> float:
    """`"90"`, `"90s"`, `"15m"`, `"1.5h"` -> seconds.

    Raises:
        UserError: for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise UserError(f"expected a time such as 90s, 15m or 1.5h. Received: {text!r}")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def changes(earlier: dict, now: dict) -> dict[str, str]:
    """`{argument: what it was and what it is}` of all that differ."""
    found = {}
    for name, value in now.items():
        was = earlier.get(name)
        if was == value:
            continue
        if name == "space":
            gone, new = ([entry for entry in a if entry not in b] for a, b in ((was or [], value), (value, was or [])))
            found[name] = f"space had {'; '.join(gone) or 'nothing else'} and has {'; '.join(new) or 'nothing else'}"
        elif name == "pipeline":
            found[name] = "the pipeline's file has changed"
        else:
            found[name] = f"{name} was {was!r} and is {value!r}"
    return found
