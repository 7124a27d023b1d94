"""Updates the paths in the store of a project whose folder was moved or copied.

MLflow stores absolute paths only: it resolves relative ones when an experiment is created.
"""

import contextlib
import sqlite3
import sys
from pathlib import Path

from keras_dl.compat.mlflow import is_local_uri, local_file_uri_to_path
from keras_dl.tracking.settings import Settings

_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("tags", "value"),  # of the tag `data`, the path of `--data`
)


def keeps_files_inside(settings: Settings) -> bool:
    """Returns whether both the store and the artifacts of new experiments are inside the project's folder."""
    store = settings.tracking_uri.removeprefix("sqlite:///")
    is_file = store != settings.tracking_uri and store != ":memory:"
    artifacts = settings.tracking.artifacts
    is_inside = "://" not in artifacts and is_within(settings.root / artifacts, settings.root)
    return is_file and is_inside and is_within(Path(store), settings.root)


def is_within(path: Path, folder: Path) -> bool:
    """Returns whether a path is inside a folder, which may be a link."""
    return path.resolve().is_relative_to(folder.resolve())


def update_paths(settings: Settings) -> None:
    """Replaces the earlier folder of a moved or copied project in its SQLite store, in one transaction.

    An experiment of this project stores its files in the folder `tracking.artifacts` of the project, which shows where
    the project was. Paths elsewhere are not changed, and nothing is changed in a store outside of the project.
    """
    if not keeps_files_inside(settings):
        return
    with contextlib.closing(sqlite3.connect(settings.tracking_uri.removeprefix("sqlite:///"))) as store, store:
        for earlier in _earlier_folders(store, settings):
            for old, new in ((earlier.as_uri(), settings.root.as_uri()), (str(earlier), str(settings.root))):
                for table, column in _PATHS:
                    store.execute(
                        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old)) "
                        f"WHERE substr({column}, 1, length(:old)) = :old AND substr({column}, 1, length(:new) + 1) "
                        "!= :new || '/'" + (" AND key = 'data'" if table == "tags" else ""),
                        {"old": f"{old}/", "new": new},
                    )
            print(f"the project was in {earlier}: runs and models are now read from {settings.root}", file=sys.stderr)


def _earlier_folders(store, settings):
    artifacts = Path(settings.tracking.artifacts).parts
    found = {}
    for (location,) in store.execute("SELECT DISTINCT artifact_location FROM experiments ORDER BY 1"):
        if not location or not is_local_uri(location):
            continue
        path = Path(local_file_uri_to_path(location))
        folder = Path(*path.parts[: -len(artifacts)])
        if path.parts[-len(artifacts) :] == artifacts and folder.resolve() != settings.root.resolve():
            found[folder] = None
    return list(found)
