"""The options of a search, and which of them may change when an unfinished search is resumed."""

import contextlib
import dataclasses
import json
import re
import sys
from pathlib import Path

from keras_dl.durable import remove_folder
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.space import describe
from keras_dl.tracking.runs import close_abandoned
from keras_dl.tuning import oracles
from keras_dl.tuning.distributed.workers import parse_address

# A search can be resumed even if these have changed: its finished trials remain comparable.
CHANGEABLE = ("trials", "early_stop", "max_time", "space", "pipeline")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The options of `keras-dl tune` that are not the pipeline's own.

    Args:
        tuner: `"random"` (default), `"bayesian"`, `"hyperband"` or `"grid"`.
        trials: int, the maximum number of trials; None (default) uses the pipeline's, or the number of combinations of
            a grid if that is smaller.
        pins: hyperparameters that are not searched, with their values.
        executions: int, training runs per trial, each from different initial weights; the score is their mean. Defaults
            to 1.
        early_stop: `"median"` or `"halving"` (see `should_stop`); None (default) trains every trial to its end.
        max_time: float, seconds after which no trial starts and running trials end after their current epoch; None
            (default) for no limit.
        resume: bool, whether to resume an unfinished search even if `CHANGEABLE` arguments differ. Defaults to False.
        fresh: bool, whether to discard an unfinished search. Defaults to False.
        keep: int, exports of this model to keep besides the champion's; None (default) keeps all.
        workers: int, worker processes on this machine; 0 (default) runs the trials in this process.
        chief: `"HOST:PORT"`, the address on which workers on other machines are served; None (default) for none.
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
        for name, known in (("tuner", oracles.NAMES), ("early_stop", (None, *oracles.EARLY_STOPPING))):
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name} must be one of {', '.join(map(str, known))}. Received: {getattr(self, name)!r}"
                )
        for name, least in (("trials", 1), ("executions", 1), ("keep", 1), ("workers", 0)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}. Received: {getattr(self, name)}")
        if self.tuner == "hyperband" and self.executions > 1:
            raise UserError("hyperband resumes single training runs: expected executions 1, or another tuner")
        if self.chief:
            parse_address(self.chief)  # raises UserError

    def arguments(self, pipeline: Pipeline, trials: int, space: list) -> dict:
        """Returns the arguments that identify this search, as JSON values.

        `trials` is the resolved number of trials, `space` the hyperparameters without the pinned ones.
        """
        options = dataclasses.asdict(pipeline.training_options)
        return {
            **{name: getattr(self, name) for name in ("tuner", "pins", "executions", "early_stop", "max_time")},
            "trials": trials,
            "data": options.pop("source"),  # the name of the option, in messages and in the run
            **options,
            "space": [describe(entry) for entry in space],
            "pipeline": pipeline.digest,
        }

    def check_trials(self, found) -> int | None:
        """Returns the number of trials of a grid over this space; None for other tuners or if it is not known.

        Raises UserError if `trials` is larger than that, or there is nothing to search.
        """
        count = oracles.combinations(found)
        if self.tuner == "grid" and count is not None and self.trials and self.trials > count:
            raise UserError(
                f"the grid has {count} combinations; expected --trials of at most that number. Received: {self.trials}"
            )
        return count if self.tuner == "grid" else None


def seconds(text: str) -> float:
    """Parses a time such as `"90"`, `"90s"`, `"15m"` or `"1.5h"` into seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise UserError(f"expected a time such as 90s, 15m or 1.5h. Received: {text!r}")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def changes(earlier: dict, now: dict) -> dict[str, str]:
    """Returns `{argument: its earlier and its current value, as text}` for those that differ."""
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


def unfinished(folder: Path, arguments: dict, resume: bool) -> tuple[dict, dict]:
    """Returns the record of an unfinished search to resume and the `changes` of its arguments; `({}, {})` without one.

    `arguments` are those of this call, from `Plan.arguments`. UserError is raised if arguments other than the
    `CHANGEABLE` ones differ, if any differ without `resume`, or if the record cannot be read.
    """
    record = folder / "search.json"
    if not record.is_file():
        remove_folder(folder)
        if resume:
            print("there is no unfinished search to resume: starting a new one", file=sys.stderr)
        return {}, {}
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))
        changed = changes(earlier["arguments"], json.loads(json.dumps(arguments)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{record} cannot be read ({error}): use --fresh to start over") from error
    refused = [text for name, text in changed.items() if name not in CHANGEABLE]
    if refused or (changed and not resume):
        way = "Repeat the earlier arguments to resume it" if refused else "Use --resume to resume with the new ones"
        raise UserError(
            f"{folder} contains an unfinished search with different arguments: {'; '.join(changed.values())}. {way}, "
            "or --fresh to discard it"
        )
    return earlier, changed


def discard(folder: Path) -> None:
    """Removes an unfinished search and ends its runs as KILLED."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        close_abandoned(json.loads((folder / "search.json").read_text(encoding="utf-8"))["run_id"])
    remove_folder(folder)
