"""The model registry: versions, aliases, and the rule for the champion."""

import contextlib
import dataclasses
import io
import json
import math

import mlflow

from keras_dl.errors import UserError
from keras_dl.tracking.settings import Settings


@dataclasses.dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Args:
        version: int.
        alias: str, the alias that it got.
        why: str, the rule's reason in words.
    """

    version: int
    alias: str
    why: str


def register(
    settings: Settings, name: str, model_uri: str, metric: str, value: float, direction: str, fingerprint: str
) -> Registered:
    """Registers a logged model as a new version and gives it an alias.

    It becomes the champion if there is none, or if it beats the present one: strictly better, on the same metric and
    the same test data. Otherwise it is the challenger.

    Args:
        settings: for the names of the aliases.
        name: str, the registered model.
        model_uri: str, from `log_model`.
        metric: str, the metric's name, and `value` on the test split.
        direction: `"min"` or `"max"`.
        fingerprint: str, of the test split.
    """
    client = mlflow.MlflowClient()
    champion, challenger = settings.registry.champion, settings.registry.challenger
    present = find_version(name, champion)
    tags = {"metric": metric, "value": repr(float(value)), "fingerprint": fingerprint}
    with contextlib.redirect_stderr(io.StringIO()):  # MLflow announces each step there
        version = mlflow.register_model(model_uri, name, tags=tags).version
    alias, why = _verdict(None if present is None else present.tags, tags, direction)
    alias = champion if alias else challenger
    client.set_registered_model_alias(name, alias, version)
    return Registered(int(version), alias, why)


def _verdict(present: dict | None, new: dict, direction: str) -> tuple[bool, str]:
    """Whether the new one is the champion, and why."""
    metric, value = new["metric"], float(new["value"])
    if not math.isfinite(value):
        return False, f"{metric} is {value}"
    if present is None:
        return True, "the first version"
    if present.get("metric") != metric:
        return False, f"the champion was judged by {present.get('metric')}, this one by {metric}"
    if present.get("fingerprint") != new["fingerprint"]:
        return False, "the champion was judged on other test data"
    held = float(present["value"])
    if (value < held) if direction == "min" else (value > held):
        return True, f"{metric} {value:.4g} beats {held:.4g}"
    return False, f"{metric} {value:.4g} does not beat the champion's {held:.4g}"


def find_version(name: str, which: str | int):
    """The `ModelVersion` of an alias or a number, or None."""
    client = mlflow.MlflowClient()
    try:
        if str(which).isdigit():
            return client.get_model_version(name, str(which))
        return client.get_model_version_by_alias(name, which)
    except mlflow.MlflowException:
        return None


def get_version(name: str, which: str | int):
    """The `ModelVersion` of an alias or a number.

    Raises:
        UserError: if there is none, listing what there is.
    """
    found = find_version(name, which)
    if found is None:
        there = [row for row in list_models() if row["name"] == name]
        versions = ", ".join(f"{row['version']} {'/'.join(row['aliases'])}".strip() for row in there)
        raise UserError(
            f"{name} has no version {which!r} in the registry. "
            + (f"There is: {versions}" if there else f"Train one: keras-dl tune pipelines/{name}.py")
        )
    return found


def origin(version) -> tuple[dict, str | None]:
    """The hyperparameters that a `ModelVersion` was trained with, and its `--data`."""
    run = mlflow.get_run(version.run_id)
    values = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/values.json"))
    source = run.data.tags.get("data", "default")
    return values, None if source == "default" else source


def list_models() -> list[dict]:
    """Every version in the registry: name, version, aliases, metric, value, fingerprint, run_id; newest first."""
    client = mlflow.MlflowClient()
    rows = []
    for model in client.search_registered_models():
        aliases = {}
        for alias, version in model.aliases.items():
            aliases.setdefault(int(version), []).append(alias)
        for version in client.search_model_versions(f"name = '{model.name}'"):
            number = int(version.version)
            rows.append(
                {"name": model.name, "version": number, "aliases": sorted(aliases.get(number, [])), **version.tags}
                | {"run_id": version.run_id}
            )
    return sorted(rows, key=lambda row: (row["name"], -row["version"]))
