"""Removal of old exports from `saved_models/`."""

import shutil

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.serving.versions import exported_versions, rename, withdrawn_folder, withdrawn_versions
from keras_dl.tracking.settings import Settings


def retire(settings: Settings, name: str, keep: int) -> list[int]:
    """Removes all but the newest exports of a model, withdrawn ones included, and prints them; keeps the champion's.

    The versions remain in the registry, and `keras-dl export` can export them again.

    Args:
        settings: the `Settings` of the project; MLflow must be connected.
        name: str, the name of the model.
        keep: int, the number of newest exports to keep, at least 1.

    Returns:
        list of int, the removed versions, newest first.

    Raises:
        UserError: if `keep` is below 1.
    """
    if keep < 1:
        raise UserError(f"expected to keep at least 1 export of {name}. Received: {keep}")
    champion = registry.find_version(name, settings.registry.champion)
    folder, withdrawn = settings.saved_models, withdrawn_versions(settings.saved_models, name)
    versions = sorted({*withdrawn, *exported_versions(folder, name)}, reverse=True)
    removed = [version for version in versions[keep:] if champion is None or version != int(champion.version)]
    for version in removed:
        for path in (folder / name / str(version), withdrawn_folder(folder, name, version)):
            if path.is_dir():
                # Renamed first, so that an interrupted removal leaves no partial version for a server to load.
                doomed = folder / name / f".tmp-retired-{version}"
                shutil.rmtree(doomed, ignore_errors=True)
                rename(path, doomed)
                shutil.rmtree(doomed)
    if removed:
        print(f"removed the exports of {name} {', '.join(map(str, removed))}; they remain in the registry")
    return removed
