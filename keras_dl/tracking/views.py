"""How MLflow's page shows the runs of a pipeline: columns and order, as a saved view of the experiment.

MLflow 3 keeps saved views as tags of the experiment, and opens one when the address of the page names it.
"""

import contextlib
import json
import time
from urllib.parse import urlencode

import mlflow
from mlflow.entities import Experiment

_VIEW = "keras-dl"
_TAG = f"mlflow.sharedViewState.{_VIEW}"
_LONGEST_TAG = 5000


def page(experiment: Experiment) -> str:
    """The address of the experiment's runs, relative to the server: values, objective, test metrics, best run first.

    The view is saved with the experiment; where that is not possible, the page opens as MLflow shows it.

    Args:
        experiment: with runs of searches and trainings.
    """
    # Without the workflow the UI opens its pages for traces of language models.
    query = {"workflowType": "machine_learning"}
    runs = mlflow.search_runs([experiment.experiment_id], max_results=500, output_format="list")
    if runs:
        with contextlib.suppress(mlflow.MlflowException):  # a store that may only be read
            _save(experiment, view(runs))
            query["viewStateShareKey"] = _VIEW
    return f"#/experiments/{experiment.experiment_id}/runs?{urlencode(query)}"


def view(runs: list) -> dict:
    """The state of MLflow's page of runs for the columns that these runs have.

    Args:
        runs: MLflow runs, newest first. The newest that names its objective says what is sorted by.
    """
    tags = next((run.data.tags for run in runs if "objective" in run.data.tags), {})
    kinds = [run.data.tags.get("kind") for run in runs]
    tried = [run for run, kind in zip(runs, kinds, strict=True) if kind == ("trial" if "trial" in kinds else "train")]
    metrics = {name for run in runs for name in run.data.metrics}
    best = [f"{what}_{tags.get('objective')}" for what in ("best", "spread")]
    # Of Keras Tuner's own, such as tuner/bracket, there are five with Hyperband.
    params = sorted({name for run in tried for name in run.data.params if "/" not in name})
    columns = [f"metrics.`{name}`" for name in best if name in metrics]
    columns += [f"params.`{name}`" for name in params]
    columns += [f"metrics.`{name}`" for name in sorted(metrics) if name.startswith("test_")]
    columns += ["attributes.`Duration`"]
    state = {
        "selectedColumns": columns,
        "columnOrder": [*columns],
        "columnWidths": {each: _width(each) for each in columns},
    }
    if best[0] in metrics:
        state |= {"orderByKey": f"metrics.`{best[0]}`", "orderByAsc": tags.get("direction") != "max"}
    if "execution" in kinds:  # their means are the trials'
        state["searchFilter"] = "tags.kind != 'execution'"
    return state


def _width(column):
    """In pixels, so that the name of a column and eight digits can be read."""
    return max(95, 7 * len(column.partition("`")[2]) + 30)


def _save(experiment, state):
    now = int(time.time() * 1000)
    saved = {"name": "trials, best first", "createdAt": now, "updatedAt": now}
    while len(text := json.dumps({**saved, "state": json.dumps(state)})) > _LONGEST_TAG:
        dropped = state["selectedColumns"].pop()
        state["columnOrder"].pop()
        del state["columnWidths"][dropped]
    mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, _TAG, text)
