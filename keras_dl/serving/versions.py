"""The versions of a model in `saved_models/`: those visible to a server, and withdrawn ones.

A server loads the highest version in the folder, so versions above the champion must be hidden. They are withdrawn by
renaming them to `.withdrawn-<version>`, which TensorFlow Serving and the embedded server ignore. Exports from another
store, whose version numbers refer to different models, become `.other-<version>-<run>`.
"""

import itertools
import json
import os
from pathlib import Path

MANIFEST = Path("assets.extra") / "manifest.json"
_WITHDRAWN = ".withdrawn-"
_OTHER = ".other-"


def exported_versions(saved_models: Path, name: str) -> list[int]:
    """Returns the versions of a model that are visible to a server, newest first."""
    return _numbers(saved_models / name, "")


def withdrawn_versions(saved_models: Path, name: str) -> list[int]:
    """Returns the withdrawn versions of a model, newest first."""
    return _numbers(saved_models / name, _WITHDRAWN)


def withdrawn_folder(saved_models: Path, name: str, version: int) -> Path:
    """Returns the folder of a withdrawn version."""
    return saved_models / name / f"{_WITHDRAWN}{version}"


def run_of(folder: Path) -> str | None:
    """Returns the id of the run that an export comes from; None if it was not exported by keras-dl."""
    try:
        run_id = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["origin"]["run_id"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return run_id if isinstance(run_id, str) else None


def set_aside(folder: Path, version: int) -> Path:
    """Takes the folder of an export, visible or withdrawn, out of service; returns its new path."""
    start = f"{_OTHER}{version}-{(run_of(folder) or 'unknown')[:8]}"
    names = itertools.chain([start], (f"{start}-{number}" for number in itertools.count(2)))
    target = next(path for path in (folder.with_name(name) for name in names) if not path.exists())
    rename(folder, target)
    return target


def exports_set_aside(saved_models: Path, name: str) -> list[Path]:
    """Returns the folders that `set_aside` renamed."""
    return sorted((saved_models / name).glob(f"{_OTHER}*"))


def _numbers(folder, prefix):
    paths = [path for path in folder.glob(f"{prefix}*") if path.is_dir()] if folder.is_dir() else []
    numbers = [path.name.removeprefix(prefix) for path in paths]
    return sorted((int(number) for number in numbers if number.isascii() and number.isdigit()), reverse=True)


def bring_back(saved_models: Path, name: str, champion: int) -> bool:
    """Makes the champion and the versions below it visible; the first step of making it the highest visible version.

    Returns True if the champion is exported. Otherwise nothing is changed, so that no server falls back to an older
    model.
    """
    folder, withdrawn = saved_models / name, withdrawn_versions(saved_models, name)
    if champion not in withdrawn + exported_versions(saved_models, name):
        return False
    for version in withdrawn:
        if version <= champion and not (folder / str(version)).exists():
            rename(withdrawn_folder(saved_models, name, version), folder / str(version))
    return True


def withdraw_above(saved_models: Path, name: str, champion: int) -> None:
    """Withdraws the versions above the champion; the second step.

    Each rename is atomic and the champion is already visible, so a server always has a version. After an interruption,
    the same two calls complete the change.
    """
    # In ascending order, so that a server switches to the champion directly, not through the versions in between.
    for version in reversed(exported_versions(saved_models, name)):
        if version > champion:
            rename(saved_models / name / str(version), withdrawn_folder(saved_models, name, version))


def rename(source: Path, target: Path) -> None:
    """Renames a folder within its parent and syncs the parent to disk."""
    os.rename(source, target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
