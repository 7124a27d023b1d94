"""Reports the results of a search: in the terminal, in its MLflow run, and as an HTML page."""

import keras_tuner as kt
import mlflow

from keras_dl.durable import write_bytes
from keras_dl.pipeline import Pipeline
from keras_dl.release import registry
from keras_dl.tracking.figures import learning_curves, log_pictures
from keras_dl.tracking.names import with_mlflow_names
from keras_dl.tracking.runs import mark_error
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.report.page import Comparison, report
from keras_dl.tuning.report.pictures import parallel_coordinates
from keras_dl.tuning.report.tables import print_leaderboard
from keras_dl.tuning.results import leaderboard, results
from keras_dl.tuning.tuner import run_name


def log_outcome(pipeline: Pipeline, oracle: kt.Oracle, found: kt.HyperParameters, run_id: str):
    """Prints the leaderboard and logs the results of the search to its run, which is the active run.

    Returns the best trial; None if every trial failed.
    """
    runs = trial_runs(run_id)
    _end_failed(oracle, runs)
    every, objective = results(oracle, runs), oracle.objective
    ranked = leaderboard(every, objective.direction)
    counts = {status: sum(one.status == status for one in every) for status in ("COMPLETED", "FAILED")}
    seconds = {"search_seconds": oracle.spent, "training_seconds": sum(one.seconds or 0 for one in every)}
    mlflow.log_metrics({"trials_completed": counts["COMPLETED"], "trials_failed": counts["FAILED"], **seconds})
    if not ranked:
        return None
    print_leaderboard(every, objective.name, objective.direction)
    best = ranked[0]
    metrics = {**best.metrics, objective.name: best.score}
    mlflow.log_metrics(with_mlflow_names({f"best_{name}": value for name, value in metrics.items()}))
    mlflow.set_tag("best_trial", run_name(best.trial_id))
    mlflow.log_params(with_mlflow_names({f"best_{name}": value for name, value in best.values.items()}))
    completed = [one for one in every if one.completed]
    rows = [{**one.values, objective.name: one.score} for one in completed]
    columns = list(dict.fromkeys(key for row in rows for key in row))  # some are conditional
    data = [[*(row.get(key) for key in columns), one.number] for row, one in zip(rows, completed, strict=True)]
    # `log_table` would append to the table of an interrupted call.
    mlflow.log_dict({"columns": [*columns, "trial"], "data": data}, "trials.json")
    logarithmic = [entry.name for entry in found.space if getattr(entry, "sampling", None) == "log"]
    curves = {run_name(one.trial_id): list(one.curve) for one in ranked[:10]}
    log_pictures(
        {
            "search": parallel_coordinates(rows, objective.name, objective.direction, logarithmic),
            "learning_curves": learning_curves(curves, objective.name),
        }
    )
    return oracle.trials[best.trial_id]


def _end_failed(oracle, runs):
    """Ends the runs of trials that the chief declared failed, since their workers died before they could."""
    for trial in oracle.trials.values():
        run_id = runs.get(trial.trial_id)
        if trial.status == "FAILED" and run_id and mlflow.get_run(run_id).info.status != "FAILED":
            message = (trial.message or "").strip()
            mark_error(run_id, message.splitlines()[-1] if message else "failed", message)
            mlflow.MlflowClient().set_terminated(run_id, "FAILED")


def write_report(
    pipeline: Pipeline, settings: Settings, oracle: kt.Oracle, found: kt.HyperParameters, version, before
) -> None:
    """Writes `searches/<name>.html` and logs it to the active run, which is that of the search.

    `found` is the space, `version` the `Registered` version of the best model, `before` the `ModelVersion` of the
    previous champion or None.
    """
    run = mlflow.get_run(mlflow.active_run().info.run_id)
    every, objective = results(oracle, trial_runs(run.info.run_id)), pipeline.goal
    tags = run.data.tags
    facts = {
        "run": run.info.run_id,
        "model": f"version {version.version}, {version.alias}: {version.why}",
        "test data": tags.get("test_fingerprint", ""),
        "data": tags.get("data", ""),
        "command": tags.get("command", ""),
        "git commit": tags.get("git_commit", "") + (" with changes" if tags.get("git_dirty") == "True" else ""),
        "devices": tags.get("devices", ""),
    }
    comparison = None
    if before is not None and int(before.version) == version.version:  # registered before an interruption
        earlier = registry.earlier_champions(pipeline.name)
        before = registry.find_version(pipeline.name, earlier[-1]) if earlier else None
    if before is not None:
        new = registry.get_version(pipeline.name, version.version)
        comparison = Comparison(
            new=f"version {new.version}",
            champion=f"version {before.version}",
            verdict=version.why,
            metrics=_side_by_side(_test_metrics(new), _test_metrics(before)),
            values=_side_by_side(registry.origin(new)[0], registry.origin(before)[0]),
        )
    page = report(
        f"{pipeline.name}: {tags.get('tuner', '')} search",
        every,
        found,
        objective.name,
        objective.direction,
        objective.directions,
        comparison,
        {name: text for name, text in facts.items() if text},
    )
    file = settings.root / "searches" / f"{pipeline.name}.html"
    write_bytes(file, page.encode())
    mlflow.log_artifact(str(file))
    print(f"report {file}")


def trial_runs(run_id: str) -> dict[str, str]:
    """Returns trial id -> MLflow run id, for the search with this run."""
    experiment = mlflow.get_run(run_id).info.experiment_id
    client, found, token = mlflow.MlflowClient(), {}, None
    while True:
        page = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'", page_token=token)
        found |= {run.data.tags["trial"]: run.info.run_id for run in page if "trial" in run.data.tags}
        token = page.token
        if not token:
            return found


def _test_metrics(version):
    metrics = mlflow.get_run(version.run_id).data.metrics
    return {name: value for name, value in metrics.items() if name.startswith("test_")}


def _side_by_side(new, old):
    return {name: (new.get(name), old.get(name)) for name in dict.fromkeys([*new, *old])}
