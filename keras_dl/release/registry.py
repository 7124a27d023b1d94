"""The model registry: versions, their aliases and their origin, and whether it can be written."""

import contextlib
import dataclasses
import datetime
import io
import json
import math

import mlflow
import sqlalchemy

from keras_dl.errors import UserError, reason_of
from keras_dl.tracking.settings import Settings

# Tag of a registered model that lists its earlier champions, oldest first: "1 2 5".
_EARLIER = "earlier_champions"
_MOST_EARLIER = 100
# The tables written when a version is registered and given an alias.
_TABLES = ("registered_models", "model_versions", "model_version_tags", "registered_model_aliases")


@dataclasses.dataclass(frozen=True)
class Registered:
    """A registered version, its alias and the reason for the alias."""

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
    """Registers a logged model as a new version, as the champion or the challenger according to `verdict`.

    `value` is the metric on the test split, whose fingerprint is `fingerprint`; `spread` is its standard deviation over
    executions, or None if it is unknown. The settings define the names of the aliases.
    """
    present = find_version(name, settings.registry.champion)
    tags = {"metric": metric, "value": repr(float(value)), "direction": direction, "fingerprint": fingerprint}
    if spread is not None:
        tags["spread"] = repr(float(spread))
    tags["why"] = verdict(None if present is None else present.tags, tags)[1]
    with contextlib.redirect_stderr(io.StringIO()):  # MLflow prints each step there
        version = int(mlflow.register_model(model_uri, name, tags=tags).version)
    return give_alias(settings, name, version)


def verdict(present: dict | None, new: dict) -> tuple[bool, str]:
    """Decides whether a version becomes the champion; returns `(wins, reason)`.

    It does if it is better on the same metric and the same test data by more than the noise. The noise is the larger of
    the two spreads, which are standard deviations over executions, and 0 if neither is known. Both arguments are tags
    as written by `register`; `present` is None if there is no champion.
    """
    metric, value = new["metric"], float(new["value"])
    if not math.isfinite(value):
        return False, f"{metric} is {value}"
    if present is None:
        return True, "the first version"
    if present.get("metric") != metric:
        return False, f"the champion was judged by {present.get('metric')}, this one by {metric}"
    if present.get("fingerprint") != new["fingerprint"]:
        return False, "the champion was judged on different test data"
    best, noise = float(present["value"]), max(_spread(present), _spread(new))
    if not math.isfinite(best):
        return True, f"{metric} {value:.4g} beats {best}"
    gain = best - value if new["direction"] == "min" else value - best
    if gain <= 0:
        return False, f"{metric} {value:.4g} does not beat the champion's {best:.4g}"
    if gain <= noise:
        return False, f"{metric} {value:.4g} beats the champion's {best:.4g} by no more than the noise, {noise:.2g}"
    return True, f"{metric} {value:.4g} beats {best:.4g}" + (f" by more than the noise, {noise:.2g}" if noise else "")


def _spread(tags):
    spread = float(tags.get("spread", 0))
    return spread if math.isfinite(spread) else 0.0


def give_alias(settings: Settings, name: str, version: int) -> Registered:
    """Gives a registered version the alias according to `verdict`, unless an interrupted call has already done so."""
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
    """Gives a version the champion's alias and records the previous champion for a rollback."""
    present, earlier = find_version(name, settings.registry.champion), earlier_champions(name)
    if present is not None and int(present.version) != version and earlier[-1:] != [int(present.version)]:
        # Recorded before the alias moves, so that an interruption in between loses nothing.
        remember_champions(name, [*earlier, int(present.version)])
    set_champion(settings, name, version)


def set_champion(settings: Settings, name: str, version: int) -> None:
    """Gives a version the champion's alias and removes the challenger's alias from it."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, settings.registry.champion, str(version))
    challenger = find_version(name, settings.registry.challenger)
    if challenger is not None and int(challenger.version) == version:
        client.delete_registered_model_alias(name, settings.registry.challenger)


def earlier_champions(name: str) -> list[int]:
    """Returns the recorded earlier champions, oldest first; some may have been deleted since."""
    recorded = mlflow.MlflowClient().get_registered_model(name).tags.get(_EARLIER, "")
    return [int(version) for version in recorded.split()]


def remember_champions(name: str, versions: list[int]) -> None:
    """Records the versions that `earlier_champions` returns, at most the latest hundred."""
    text = " ".join(str(version) for version in versions[-_MOST_EARLIER:])
    mlflow.MlflowClient().set_registered_model_tag(name, _EARLIER, text)


def find_version(name: str, which: str | int):
    """Returns the `ModelVersion` of an alias or a number, or None."""
    client = mlflow.MlflowClient()
    try:
        if str(which).isdigit():
            return client.get_model_version(name, str(which))
        return client.get_model_version_by_alias(name, which)
    except mlflow.MlflowException as error:
        # The second code is MLflow's for an unknown alias of an existing model. Other codes are failures of the store.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def get_version(name: str, which: str | int):
    """Returns the `ModelVersion` of an alias or a number; UserError, with those that exist, if there is none."""
    found = find_version(name, which)
    if found is None:
        rows = list_models()
        versions = [f"{row['version']} {'/'.join(row['aliases'])}".strip() for row in rows if row["name"] == name]
        if versions:
            raise UserError(f"{name} has no version {which!r} in the registry. Available: {', '.join(versions)}")
        names = ", ".join(dict.fromkeys(row["name"] for row in rows)) or "none yet; keras-dl tune registers one"
        raise UserError(f"no model {name!r} in the registry. Available: {names}")
    return found


def version_of_run(name: str, run_id: str) -> int | None:
    """Returns the newest version of a model that was registered from a run, or None."""
    found = mlflow.search_model_versions(filter_string=f"run_id = '{run_id}'")
    return max((int(version.version) for version in found if version.name == name), default=None)


def runs_of_versions(name: str) -> dict[int, str | None]:
    """Returns `{version: id of its run}` of a registered model; {} if there is no such model."""
    found = mlflow.search_model_versions(filter_string=f"name = '{name}'")
    return {int(version.version): version.run_id or None for version in found}


def has_run(run_id: str) -> bool:
    """Returns whether the store has a run with this id, which may be deleted but not yet removed."""
    try:
        mlflow.get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def origin(version) -> tuple[dict, str | None]:
    """Returns the hyperparameters that a `ModelVersion` was trained with, and its `--data`."""
    run = mlflow.get_run(version.run_id)
    try:
        values = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/values.json"))
    except (OSError, mlflow.MlflowException) as error:
        raise files_missing(version, run.info.artifact_uri, error) from error
    source = run.data.tags.get("data", "default")
    return values, None if source == "default" else source


def files_missing(version, where: str, error: Exception) -> UserError:
    """Returns the error for a version whose files cannot be read."""
    return UserError(
        f"the files of {version.name} version {version.version} cannot be read from {where} ({reason_of(error)}): "
        "restore them, for example if only the store was copied"
    )


def lineage(version) -> dict:
    """Returns the origin of a `ModelVersion` for its export, without the address of the store."""
    value = float(version.tags.get("value", math.nan))
    return {
        "name": version.name,
        "version": int(version.version),
        "run_id": version.run_id,
        "date": datetime.datetime.fromtimestamp(version.creation_timestamp / 1000, datetime.UTC).isoformat(
            "T", "seconds"
        ),
        "metric": version.tags.get("metric"),
        "value": value if math.isfinite(value) else None,  # JSON cannot represent other values
        "fingerprint": version.tags.get("fingerprint"),
        "values": origin(version)[0],
    }


def mark_exported(version, folder: str) -> None:
    """Tags a `ModelVersion` and its run with the folder of the export, relative to the project."""
    client = mlflow.MlflowClient()
    client.set_model_version_tag(version.name, version.version, "exported", folder)
    client.set_tag(version.run_id, "exported", folder)


def list_models() -> list[dict]:
    """Returns all registered versions as dicts, sorted by name, newest version first.

    Each has the items name, version, aliases and run_id, and the tags of the version, such as metric and value.
    """
    rows = []
    for model in mlflow.search_registered_models():  # the method of the client returns at most a hundred
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


def check_registry(name: str) -> None:
    """Raises UserError if the registry would not allow a model of this name to be registered. The registry is not
    changed.
    """
    if not name.strip(". ") or set(name) & set("/:"):
        raise UserError(f"the name of a registered model must not be empty or contain '/' or ':'. Received: {name!r}")
    uri = mlflow.get_registry_uri()
    try:
        if uri.startswith(("http://", "https://")):
            _check_server(name)
        elif "://" in uri:
            _check_database(uri)
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = reason_of(getattr(error, "orig", None) or error)
        where = sqlalchemy.make_url(uri).render_as_string(hide_password=True)
        raise UserError(f"cannot register {name} in the model registry {where}: {reason}") from error


def _check_database(uri):
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            for table in _TABLES:  # requires the permission and lock for an insert, but inserts no row
                connection.execute(sqlalchemy.text(f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"))
            connection.rollback()
    finally:
        engine.dispose()


def _check_server(name):
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model("/")  # an invalid name: any other error is about permissions
    except mlflow.MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    if any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.delete_registered_model_alias(name, "nonexistent-alias")  # fails without permission for this model
