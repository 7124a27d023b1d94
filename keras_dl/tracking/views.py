"""Saved views of MLflow's runs page: the columns and sort order for the runs of a pipeline.

MLflow 3 stores saved views as tags of the experiment and opens the view named in the URL of the page.
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
    """Saves a view of the experiment's runs and returns its URL, relative to the server.

    The view shows the objective, hyperparameters and test metrics, best run first. If it cannot be saved, the URL opens
    MLflow's default view.

    Args:
        experiment: an experiment with the runs of searches and training.
    """
    # Without workflowType, the UI opens its pages for traces of language models.
    query = {"workflowType": "machine_learning"}
    runs = mlflow.search_runs([experiment.experiment_id], max_results=500, output_format="list")
    if runs:
        with contextlib.suppress(mlflow.MlflowException):  # a read-only store
            _save(experiment, view(runs))
            query["viewStateShareKey"] = _VIEW
    return f"#/experiments/{experiment.experiment_id}/runs?{urlencode(query)}"


def view(runs: list) -> dict:
    """Returns the state of MLflow's runs page: columns, their widths, sort order and filter.

    Args:
        runs: list of MLflow runs, newest first. The page is sorted by the objective of the newest run that has one.
    """
    tags = next((run.data.tags for run in runs if "objective" in run.data.tags), {})
    kinds = [run.data.tags.get("kind") for run in runs]
    leaves = [run for run, kind in zip(runs, kinds, strict=True) if kind == ("trial" if "trial" in kinds else "train")]
    metrics = {name for run in runs for name in run.data.metrics}
    best = [f"{what}_{tags.get('objective')}" for what in ("best", "spread")]
    # Without Keras Tuner's own values, such as tuner/bracket; Hyperband has five of them.
    params = sorted({name for run in leaves for name in run.data.params if "/" not in name})
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
    if "execution" in kinds:  # trials have the means of their executions
        state["searchFilter"] = "tags.kind != 'execution'"
    return state


def _width(column):
    """Returns the width in pixels that fits the name of a column and eight digits."""
    return max(95, 7 * len(column.partition("`")[2]) + 30)


def _save(experiment, state):
    now = int(time.time() * 1000)
    saved = {"name": "trials, best first", "createdAt": now, "updatedAt": now}
    while len(text := json.dumps({**saved, "state": json.dumps(state)})) > _LONGEST_TAG:
        dropped = state["selectedColumns"].pop()
        state["columnOrder"].pop()
        del state["columnWidths"][dropped]
    mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, _TAG, text)
