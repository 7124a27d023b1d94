"""A table that compares two versions of a model."""

import datetime

import mlflow
import rich.box
import rich.console
import rich.table

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.release.registry import verdict
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def compare(settings: Settings, name: str, first: str | None = None, second: str | None = None) -> None:
    """Prints a table of two versions with differences marked, and whether the second would replace the first.

    Args:
        settings: the `Settings` of the project.
        name: str, the name of the registered model.
        first: an alias or a version number, treated as the champion. None (default): the champion.
        second: an alias or a version number. None (default): the challenger or, without one, the previous champion.

    Raises:
        UserError: if a version does not exist.
    """
    connect(settings)
    champion = registry.get_version(name, first or settings.registry.champion)
    versions = [champion, registry.get_version(name, second or _rival(settings, name))]
    heads = [" ".join([str(version.version), *sorted(version.aliases)]) for version in versions]
    table = rich.table.Table(name, *heads, "", box=rich.box.SIMPLE_HEAD)
    columns = [_description(settings, version) for version in versions]
    for section in zip(*columns, strict=True):
        for row in dict.fromkeys(key for column in section for key in column):
            cells = [column.get(row) for column in section]
            table.add_row(row, *_shown(*cells), "" if cells[0] == cells[1] else "*")
        table.add_section()
    console = rich.console.Console()
    console.print(table)
    if all({"metric", "value", "direction", "fingerprint"} <= set(version.tags) for version in versions):
        wins, why = verdict(versions[0].tags, versions[1].tags)
        console.print(f"version {versions[1].version} {'replaces' if wins else 'does not replace'} version "
                      f"{versions[0].version}: {why}", soft_wrap=True, highlight=False)  # fmt: skip


def _rival(settings, name):
    earlier = registry.earlier_champions(name)
    if registry.find_version(name, settings.registry.challenger) is not None:
        return settings.registry.challenger
    if earlier:
        return earlier[-1]
    versions = [row["version"] for row in registry.list_models() if row["name"] == name]
    if len(versions) == 1:
        raise UserError(f"{name} has only one version, {versions[0]}; expected at least two to compare")
    return settings.registry.challenger


def _description(settings, version):
    """Returns three dicts for the sections of the table: the version, its hyperparameters and its test metrics."""
    run, number = mlflow.get_run(version.run_id), int(version.version)
    date = datetime.datetime.fromtimestamp(version.creation_timestamp / 1000)
    shown, withdrawn = (find(settings.saved_models, version.name) for find in (exported_versions, withdrawn_versions))
    about = {
        "date": f"{date:%Y-%m-%d %H:%M}",
        "run": version.run_id,
        "test data": version.tags.get("fingerprint", "-")[:12],
        version.tags.get("metric", "metric"): float(version.tags["value"]) if "value" in version.tags else None,
        "spread": float(version.tags["spread"]) if "spread" in version.tags else None,
        "exported": "yes" if number in shown else "withdrawn" if number in withdrawn else "no",
    }
    metrics = {key: value for key, value in sorted(run.data.metrics.items()) if key.startswith("test_")}
    return about, dict(sorted(registry.origin(version)[0].items())), metrics


def _shown(first, second):
    """Formats two cells: numbers with four digits, or with all digits if four do not show the difference."""
    texts = [_text(first, ".4g"), _text(second, ".4g")]
    return texts if first == second or texts[0] != texts[1] else [_text(first, ""), _text(second, "")]


def _text(value, digits):
    return "-" if value is None else format(value, digits) if isinstance(value, float) else str(value)
