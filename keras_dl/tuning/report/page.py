"""Reports a search as one HTML file, readable without MLflow or Python."""

import base64
import dataclasses
import hashlib
import io
from pathlib import Path

import jinja2
import keras_tuner as kt
import matplotlib
from markupsafe import Markup

from keras_dl.tuning.report import pictures
from keras_dl.tuning.report.importance import importance
from keras_dl.tuning.results import TrialResult, clock, last_line, leaderboard, number, pareto, searched


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The new best model, compared with the current champion, with the registry's decision and its reason.

    `metrics` and `values` are `{name: (value of the new model, value of the champion)}`; a missing value is None.
    """

    new: str
    champion: str
    verdict: str
    metrics: dict[str, tuple]
    values: dict[str, tuple] = dataclasses.field(default_factory=dict)


def report(
    title: str,
    results: list[TrialResult],
    space: kt.HyperParameters,
    objective: str,
    direction: str,
    directions: dict[str, str] | None = None,
    comparison: Comparison | None = None,
    facts: dict[str, str] | None = None,
) -> str:
    """Returns a self-contained HTML page: the best trial, the leaderboard, failed trials, and plots of the search.

    The page loads no other files and is readable without JavaScript, which only sorts its tables. Names, values and
    messages are escaped. The results may be empty. `directions` are `{metric: "min" or "max"}` of several objectives,
    whose Pareto front is shown too; `facts` are texts by name, such as the command and the versions.
    """
    ranked = leaderboard(results, direction)
    names = searched(results)
    found = importance(results, space)
    several = directions if directions and len(directions) > 1 else {}
    front = pareto(results, several) if several else []
    logarithmic = [entry.name for entry in space.space if getattr(entry, "sampling", None) == "log"]
    drawn, slices = {}, []
    if any(one.curve for one in results):
        drawn["curves"] = pictures.curves(results, objective, direction), f"{objective} of each trial over its epochs"
    if sum(one.seconds is not None for one in results) > 1:
        drawn["times"] = pictures.times(results), "time of each trial"
    if found and found.explained > 0:
        words = ", ".join(f"{name} {100 * share:.0f}%" for name, share in found.shares.items())
        drawn["importance"] = pictures.importance_bars(found), f"importance: {words}"
    if len(ranked) > 1 and names:
        rows = [{**{name: one.values.get(name) for name in names}, objective: one.score} for one in ranked]
        picture = pictures.parallel_coordinates(rows, objective, direction, logarithmic)
        drawn["parallel"] = picture, "values and scores of all completed trials as parallel coordinates"
        for name in [name for name in names if len({repr(one.values.get(name)) for one in ranked}) > 1]:
            picture = pictures.slice_of(results, name, objective, direction, name in logarithmic)
            drawn[f"slice {name}"] = picture, f"{objective} over {name}"
            slices.append(f"slice {name}")
    for one, other in _pairs(several) if front else []:
        drawn[f"trade-off {one} {other}"] = pictures.trade_off(results, front, one, other), f"{other} over {one}"
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    return _template().render(
        title=title,
        objective=objective,
        directions=several,
        ranked=ranked,
        best=ranked[0] if ranked else None,
        failed=[one for one in results if not one.completed and one.status != "RUNNING"],
        unfinished=[one for one in results if one.status == "RUNNING"],
        seconds=sum(one.seconds or 0 for one in results),
        names=names,
        metrics=list(dict.fromkeys([objective, *several])),
        same={name: value for name, value in ranked[0].values.items() if name not in names} if ranked else {},
        spread=any(one.spread for one in ranked),
        front=front,
        importance=found,
        pictures={name: _embedded(figure, words) for name, (figure, words) in drawn.items()},
        slices=slices,
        comparison=comparison,
        facts=facts or {},
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def _pairs(names):
    names = list(names)
    return [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]


def _embedded(figure, words):
    """Returns a figure as an image for the page: its source, its alternative text and its width in rem."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "keras_dl"}):  # makes the output deterministic
        figure.savefig(file, format="svg", metadata={"Date": None})
    source = "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
    return {"source": source, "words": words, "width": round(6.5 * figure.get_figwidth(), 1)}


def _template():
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "clock": clock, "reason": last_line}
    return environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
