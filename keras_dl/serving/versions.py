"""What lies in `saved_models/`: the versions of a model that a server sees, and those withdrawn from it.

A server takes the highest number in the folder, so that a version above the champion must not show. It is withdrawn by
a rename to `.withdrawn-<version>`, which TensorFlow Serving and our server pass over, and comes back by another.
"""

import os
from pathlib import Path

_WITHDRAWN = ".withdrawn-"


def exported_versions(saved_models: Path, name: str) -> list[int]:
    """The versions of a model that a server sees, newest first."""
    return _numbers(saved_models / name, "")


def withdrawn_versions(saved_models: Path, name: str) -> list[int]:
    """The versions of a model that lie in the folder, but not for a server, newest first."""
    return _numbers(saved_models / name, _WITHDRAWN)


def withdrawn_folder(saved_models: Path, name: str, version: int) -> Path:
    """Where a withdrawn version lies."""
    return saved_models / name / f"{_WITHDRAWN}{version}"


def _numbers(folder, prefix):
    paths = [path for path in folder.glob(f"{prefix}*") if path.is_dir()] if folder.is_dir() else []
    numbers = [path.name.removeprefix(prefix) for path in paths]
    return sorted((int(number) for number in numbers if number.isascii() and number.isdigit()), reverse=True)


def bring_back(saved_models: Path, name: str, champion: int) -> bool:
    """Lets a server see the champion and what is below it again: the first half of making it the highest version.

    Args:
        saved_models: the folder of all models.
        name: of the model.
        champion: int, its version.

    Returns:
        Whether the champion is exported. Without its export nothing is changed, for a server would lose a newer model
        to an older one.
    """
    folder, withdrawn = saved_models / name, withdrawn_versions(saved_models, name)
    if champion not in withdrawn + exported_versions(saved_models, name):
        return False
    for version in withdrawn:
        if version <= champion and not (folder / str(version)).exists():
            rename(withdrawn_folder(saved_models, name, version), folder / str(version))
    return True


def withdraw_above(saved_models: Path, name: str, champion: int) -> None:
    """Hides the versions above the champion from a server: the second half.

    Each step is one rename, and the champion is there before: stopped at any moment, a server still has a version, and
    the same calls do the rest.

    Args:
        saved_models: the folder of all models.
        name: of the model.
        champion: int, its version, which is exported.
    """
    # Upwards, so that a server goes to the champion at once, and not over the versions in between.
    for version in reversed(exported_versions(saved_models, name)):
        if version > champion:
            rename(saved_models / name / str(version), withdrawn_folder(saved_models, name, version))


def rename(source: Path, target: Path) -> None:
    """Renames a folder within its parent, on disk when this returns."""
    os.rename(source, target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
