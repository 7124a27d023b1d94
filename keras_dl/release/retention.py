"""How many exports of a model stay in `saved_models/`."""

import shutil

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.serving.versions import exported_versions, rename, withdrawn_folder, withdrawn_versions
from keras_dl.tracking.settings import Settings


def retire(settings: Settings, name: str, keep: int) -> list[int]:
    """Removes a model's exports beyond the newest ones, never the champion's, and says so; withdrawn ones count.

    The versions stay in the registry, and `keras-dl export` makes their folders again.

    Args:
        settings: connected to, for the champion and the folder of all models.
        name: of the model.
        keep: int, from 1, how many of the newest stay.

    Returns:
        The versions removed, newest first.

    Raises:
        UserError: if `keep` is below 1.
    """
    if keep < 1:
        raise UserError(f"expected to keep at least 1 export of {name}. Received: {keep}")
    champion = registry.find_version(name, settings.registry.champion)
    folder, withdrawn = settings.saved_models, withdrawn_versions(settings.saved_models, name)
    there = sorted({*withdrawn, *exported_versions(folder, name)}, reverse=True)
    removed = [version for version in there[keep:] if champion is None or version != int(champion.version)]
    for version in removed:
        for path in (folder / name / str(version), withdrawn_folder(folder, name, version)):
            if path.is_dir():
                # Out of a server's sight first; what is left of it, if we are stopped, is no version.
                doomed = folder / name / f".tmp-retired-{version}"
                shutil.rmtree(doomed, ignore_errors=True)
                rename(path, doomed)
                shutil.rmtree(doomed)
    if removed:
        print(f"removed the exports of {name} {', '.join(map(str, removed))}; they are still in the registry")
    return removed
