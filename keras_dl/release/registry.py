"""The model registry: versions, their aliases, and where each comes from."""

import contextlib
import dataclasses
import datetime
import io
import json
import math

import mlflow

from keras_dl.errors import UserError
from keras_dl.release.rule import verdict
from keras_dl.tracking.settings import Settings

# The tag of a registered model with the champions before the present one, oldest first: "1 2 5".
_EARLIER = "earlier_champions"
_MOST_EARLIER = 100


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
    settings: Settings,
    name: str,
    model_uri: str,
    metric: str,
    value: float,
    direction: str,
    fingerprint: str,
    spread: float | None = None,
) -> Registered:
    """Registers a logged model as a new version and gives it an alias.

    It becomes the champion if there is none, or if it beats the present one on the same metric and the same test data
    by more than noise: by more than the larger of both spreads, or strictly where none is known. Otherwise it is the
    challenger.

    Args:
        settings: for the names of the aliases.
        name: str, the registered model.
        model_uri: str, from `log_model`.
        metric: str, the metric's name, and `value` on the test split.
        direction: `"min"` or `"max"`.
        fingerprint: str, of the test split.
        spread: float, the standard deviation of the metric over executions. None (default): not known.
    """
    present = find_version(name, settings.registry.champion)
    tags = {"metric": metric, "value": repr(float(value)), "direction": direction, "fingerprint": fingerprint}
    if spread is not None:
        tags["spread"] = repr(float(spread))
    tags["why"] = verdict(None if present is None else present.tags, tags)[1]
    with contextlib.redirect_stderr(io.StringIO()):  # MLflow announces each step there
        version = int(mlflow.register_model(model_uri, name, tags=tags).version)
    return give_alias(settings, name, version)


def give_alias(settings: Settings, name: str, version: int) -> Registered:
    """Gives a registered version the alias that the rule says, unless a call that was killed has done so already.

    Args:
        settings: for the names of the aliases.
        name: str, the registered model.
        version: int, which is there.
    """
    new = get_version(name, version)
    champion, challenger = (find_version(name, getattr(settings.registry, each)) for each in ("champion", "challenger"))
    if champion is not None and int(champion.version) == version:
        return Registered(version, settings.registry.champion, new.tags.get("why", ""))
    wins, why = verdict(None if champion is None else champion.tags, new.tags)
    if challenger is not None and int(challenger.version) == version:
        wins = False
    elif wins:
        move_champion(settings, name, version)
    else:
        mlflow.MlflowClient().set_registered_model_alias(name, settings.registry.challenger, str(version))
    return Registered(version, settings.registry.champion if wins else settings.registry.challenger, why)


def move_champion(settings: Settings, name: str, version: int) -> None:
    """Gives a version the champion's alias, and remembers the champion before it for a rollback.

    Args:
        settings: for the names of the aliases.
        name: str, the registered model.
        version: int, which is there.
    """
    present, earlier = find_version(name, settings.registry.champion), earlier_champions(name)
    if present is not None and int(present.version) != version and earlier[-1:] != [int(present.version)]:
        # Before the alias moves: stopped in between, nothing is forgotten.
        remember_champions(name, [*earlier, int(present.version)])
    set_champion(settings, name, version)


def set_champion(settings: Settings, name: str, version: int) -> None:
    """Gives a version the champion's alias; if it was the challenger, that alias is free."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, settings.registry.champion, str(version))
    challenger = find_version(name, settings.registry.challenger)
    if challenger is not None and int(challenger.version) == version:
        client.delete_registered_model_alias(name, settings.registry.challenger)


def earlier_champions(name: str) -> list[int]:
    """The versions that were champion before the present one, oldest first; as recorded, whether still there or not."""
    recorded = mlflow.MlflowClient().get_registered_model(name).tags.get(_EARLIER, "")
    return [int(version) for version in recorded.split()]


def remember_champions(name: str, versions: list[int]) -> None:
    """Records what `earlier_champions` gives, the latest hundred of it."""
    text = " ".join(str(version) for version in versions[-_MOST_EARLIER:])
    mlflow.MlflowClient().set_registered_model_tag(name, _EARLIER, text)


def find_version(name: str, which: str | int):
    """The `ModelVersion` of an alias or a number, or None."""
    client = mlflow.MlflowClient()
    try:
        if str(which).isdigit():
            return client.get_model_version(name, str(which))
        return client.get_model_version_by_alias(name, which)
    except mlflow.MlflowException as error:
        # An unknown alias of a known model is a wrong value to MLflow. A store that fails is no missing version.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def get_version(name: str, which: str | int):
    """The `ModelVersion` of an alias or a number.

    Raises:
        UserError: if there is none, listing what there is.
    """
    found = find_version(name, which)
    if found is None:
        rows = list_models()
        versions = [f"{row['version']} {'/'.join(row['aliases'])}".strip() for row in rows if row["name"] == name]
        if versions:
            raise UserError(f"{name} has no version {which!r} in the registry. There is: {', '.join(versions)}")
        names = ", ".join(dict.fromkeys(row["name"] for row in rows)) or "none yet; keras-dl tune makes one"
        raise UserError(f"no model {name!r} in the registry. There is: {names}")
    return found


def version_of_run(name: str, run_id: str) -> int | None:
    """The newest version of a model that was registered from a run, or None."""
    found = mlflow.search_model_versions(filter_string=f"run_id = '{run_id}'")
    return max((int(version.version) for version in found if version.name == name), default=None)


def origin(version) -> tuple[dict, str | None]:
    """The hyperparameters that a `ModelVersion` was trained with, and its `--data`."""
    run = mlflow.get_run(version.run_id)
    values = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/values.json"))
    source = run.data.tags.get("data", "default")
    return values, None if source == "default" else source


def lineage(version) -> dict:
    """Where a `ModelVersion` comes from, for who finds its export: names and figures, no address of a store."""
    value = float(version.tags.get("value", math.nan))
    return {
        "name": version.name,
        "version": int(version.version),
        "run_id": version.run_id,
        "date": datetime.datetime.fromtimestamp(version.creation_timestamp / 1000, datetime.UTC).isoformat(
            "T", "seconds"
        ),
        "metric": version.tags.get("metric"),
        "value": value if math.isfinite(value) else None,  # JSON has no other number
        "fingerprint": version.tags.get("fingerprint"),
        "values": origin(version)[0],
    }


def mark_exported(version, folder: str) -> None:
    """Notes at a `ModelVersion` and at its run where it was exported to, a folder relative to the project's."""
    client = mlflow.MlflowClient()
    client.set_model_version_tag(version.name, version.version, "exported", folder)
    client.set_tag(version.run_id, "exported", folder)


def list_models() -> list[dict]:
    """Every version in the registry: name, version, aliases, metric, value, fingerprint, run_id; newest first."""
    rows = []
    for model in mlflow.search_registered_models():  # the client's gives the first hundred
        aliases = {}
        for alias, version in model.aliases.items():
            aliases.setdefault(int(version), []).append(alias)
        for version in mlflow.search_model_versions(filter_string=f"name = '{model.name}'"):
            number = int(version.version)
            rows.append(
                {"name": model.name, "version": number, "aliases": sorted(aliases.get(number, [])), **version.tags}
                | {"run_id": version.run_id}
            )
    return sorted(rows, key=lambda row: (row["name"], -row["version"]))
