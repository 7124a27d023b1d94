"""`keras-dl promote`, `rollback` and `compare`: change the champion, or compare one version with another."""

import datetime

import mlflow
import rich.box
import rich.table

from keras_dl.console import PlainConsole
from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.release.registry import verdict
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def promote(settings: Settings, name: str, which: str) -> int:
    """Makes a version, given by number or alias, the champion regardless of its metrics; updates the served versions.

    The alias moves before the folder is updated; if the call is interrupted, repeating it completes the change.
    """
    connect(settings)
    version = int(registry.get_version(name, which).version)
    before = registry.find_version(name, settings.registry.champion)
    registry.move_champion(settings, name, version)
    print(f"model  {name} version {version} is the {settings.registry.champion}{_instead_of(before, version)}")
    _serve(settings, name, version)
    return version


def rollback(settings: Settings, name: str) -> int:
    """Makes the previous champion the champion again; each further call goes back one more champion."""
    connect(settings)
    champion = registry.get_version(name, settings.registry.champion)
    earlier = registry.earlier_champions(name)
    while earlier and registry.find_version(name, earlier[-1]) is None:
        earlier.pop()  # deleted
    if not earlier:
        raise UserError(f"{name} version {champion.version} is the first champion: there is no earlier one")
    version = earlier[-1]
    # The record is shortened last, so that repeating an interrupted rollback completes it and goes back no further.
    registry.set_champion(settings, name, version)
    print(f"model  {name} version {version} is the {settings.registry.champion} again{_instead_of(champion, version)}")
    _serve(settings, name, version)
    registry.remember_champions(name, earlier[:-1])
    return version


def _instead_of(before, version):
    return "" if before is None or int(before.version) == version else f", instead of version {before.version}"


def _serve(settings, name, version):
    """Makes servers use the champion, if it is exported, and prints the changes to the folder."""
    from keras_dl.release.served_models import show_champion  # imports TensorFlow, which compare does not need

    folder, withdrawn = settings.saved_models, withdrawn_versions(settings.saved_models, name)
    if not show_champion(settings, name, version):
        print(f"export missing; to serve it: keras-dl export FILE --model {version}, where FILE is the pipeline")
        return
    print(f"export {folder / name / str(version)}")
    newly = sorted(set(withdrawn_versions(folder, name)) - set(withdrawn))
    back = sorted(set(withdrawn) & set(exported_versions(folder, name)))
    for versions, what in ((newly, "withdrawn from serving"), (back, "back in serving")):
        if versions:
            print(f"       {what}: version {', '.join(map(str, versions))}")


def compare(settings: Settings, name: str, first: str | None = None, second: str | None = None) -> None:
    """Prints a table of two versions with differences marked, and whether the second would replace the first.

    Both are an alias or a version number. `first` defaults to the champion, `second` to the challenger or, without one,
    to the previous champion.
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
    console = PlainConsole()
    console.print(table)
    if all({"metric", "value", "direction", "fingerprint"} <= set(version.tags) for version in versions):
        wins, why = verdict(versions[0].tags, versions[1].tags)
        console.print(f"version {versions[1].version} {'replaces' if wins else 'does not replace'} version "
                      f"{versions[0].version}: {why}", soft_wrap=True)  # fmt: skip


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
