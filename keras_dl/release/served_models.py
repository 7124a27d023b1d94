"""`saved_models/models.config`, the list of exported models and their labels that servers read.

`promote`, `rollback` and every export rewrite the file. The embedded server follows it, and so does TensorFlow Serving
with `--model_config_file_poll_wait_seconds`.
"""

import os
from pathlib import Path

from filelock import FileLock

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.serving.configuration import Served, model_config_text, model_configs
from keras_dl.serving.server.source import LIVE
from keras_dl.serving.versions import (
    bring_back,
    exported_versions,
    exports_set_aside,
    rename,
    run_of,
    set_aside,
    withdraw_above,
    withdrawn_folder,
    withdrawn_versions,
)
from keras_dl.tracking.settings import Settings

_HEAD = "# Written by keras-dl: every export, promote and rollback replaces it. Paths are those inside the container.\n"


def served_models(settings: Settings) -> list[Served]:
    """Returns the exported models, sorted by name, with the registry's aliases as labels. MLflow must be connected."""
    aliases: dict[str, dict[str, int]] = {}
    for row in registry.list_models():
        aliases.setdefault(row["name"], {}).update(dict.fromkeys(row["aliases"], row["version"]))
    folder = settings.saved_models
    names = sorted(path.name for path in folder.glob("*") if path.is_dir()) if folder.is_dir() else []
    found = []
    for name in names:
        if versions := exported_versions(folder, name):
            labels = {alias: version for alias, version in sorted(aliases.get(name, {}).items()) if version in versions}
            found.append(Served(name, tuple(versions), labels))
    return found


def write_model_config(settings: Settings) -> Path:
    """Updates `saved_models/models.config` atomically and returns its path. MLflow must be connected.

    A file that was not written by keras-dl is kept as `models.config.before`.
    """
    path = settings.saved_models / LIVE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock covers the registry query too, so that an older result never overwrites a newer one.
        with FileLock(path.parent / f".{LIVE}.lock"):
            content = (_HEAD + model_config_text(model_configs(served_models(settings)))).encode()
            old = path.read_bytes() if path.exists() else b""
            if old and not old.startswith(_HEAD.encode()):
                os.replace(path, path.with_name(f"{LIVE}.before"))
            if old != content:  # servers reload a file that has changed
                write_bytes(path, content)
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror or error}"
        raise UserError(
            f"{problem}. Servers keep their current labels; keras-dl promote writes the file again"
        ) from error
    return path


def set_aside_others(settings: Settings, name: str) -> None:
    """Takes exports from other stores out of service, and prints what was done. MLflow must be connected.

    A store that was recreated, for example because `mlflow.db` was deleted, numbers versions from 1 again: an export
    belongs to a version only if both come from the same run. Exports that were set aside earlier are restored as
    withdrawn versions when their store is back.
    """
    folder, runs = settings.saved_models, registry.runs_of_versions(name)
    versions = {*exported_versions(folder, name), *withdrawn_versions(folder, name)}
    for version, export in [(number, each) for number in versions for each in _folders(folder, name, number)]:
        run = run_of(export)
        is_other = run != runs[version] if version in runs else run and not registry.has_run(run)
        if export.is_dir() and is_other:
            shown = f"run {run} from another store" if run else "an unknown run"
            print(f"export {export} comes from {shown}: moved to {set_aside(export, version).name}")
    for export in exports_set_aside(folder, name):
        version = next((number for number, run in runs.items() if run and run == run_of(export)), None)
        if version is not None and not any(each.exists() for each in _folders(folder, name, version)):
            rename(export, withdrawn_folder(folder, name, version))
            print(f"export {export} belongs to version {version} of this store: withdrawn, no longer set aside")


def _folders(saved_models, name, version):
    return saved_models / name / str(version), withdrawn_folder(saved_models, name, version)


def show_champion(settings: Settings, name: str, champion: int) -> bool:
    """Makes the champion the highest version that a server sees, and moves the labels to it.

    Higher versions are withdrawn after `models.config` has moved their labels to the champion. Returns whether the
    champion is exported; if it is not, no version is withdrawn. Exports from other stores are set aside first.
    """
    set_aside_others(settings, name)
    shown = bring_back(settings.saved_models, name, champion)
    write_model_config(settings)
    if shown:
        withdraw_above(settings.saved_models, name, champion)
        write_model_config(settings)
    return shown
