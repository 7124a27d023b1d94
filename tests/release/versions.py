"""Registered versions without a model."""

import mlflow

from keras_dl.release import registry
from keras_dl.tracking.runs import open_run


def register(
    settings,
    name,
    value,
    *,
    metric="error",
    direction="min",
    fingerprint="same",
    spread=None,
    values=None,
    metrics=None,
):
    """Registers a version from a run that logs no model; MLflow must be connected to an experiment."""
    with open_run(settings, "train") as run:
        mlflow.log_dict(values or {}, "values.json")
        mlflow.log_metrics(metrics or {})
        client = mlflow.MlflowClient()
        logged = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
        client.finalize_logged_model(logged.model_id, "READY")
    return registry.register(settings, name, logged.model_uri, metric, value, direction, fingerprint, spread)
