"""A version's folder, whole or not at all: written beside its place, synced to disk, renamed.

A folder that is being written is held by a lock of the operating system, which ends with the process however that
ends; so what a killed process left is told from what another one still writes, whoever has its process id by now.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.versions import rename, withdrawn_folder

_PREFIX = ".tmp-export-"


def check_writable(folder: Path) -> None:
    """Raises a UserError if nothing can be written in `folder`, which is made if missing: asked before a search."""
    try:
        _make_folders(folder)
        probe = folder / f".tmp-probe-{uuid.uuid4().hex[:12]}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def check_free(saved_models: Path, name: str, version: int) -> None:
    """Raises a UserError if the version lies in the folder already, for a server or withdrawn."""
    target = saved_models / name / str(version)
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} is there already: a version never changes once it is exported")
    if withdrawn_folder(saved_models, name, version).exists():
        raise UserError(
            f"{name} version {version} is exported, but withdrawn from serving: "
            f"keras-dl promote {name} {version} brings it back"
        )


@contextlib.contextmanager
def staged(saved_models: Path, name: str, version: int) -> Iterator[Path]:
    """A folder to write a version in, which becomes the version when the context ends well, and is gone otherwise.

    Unique for each process and thread. What killed processes left beside it is removed first.

    Args:
        saved_models: the folder of all models.
        name: of the model.
        version: int, which is not there yet.

    Yields:
        The folder, empty.

    Raises:
        UserError: if the version is there, or came while this one was written.
        OSError: if it cannot be written, synced or renamed.
    """
    check_free(saved_models, name, version)
    check_writable(saved_models / name)
    for leftover in (saved_models / name).glob(f"{_PREFIX}*"):
        _remove_if_left(leftover)
    folder, lock = _own_folder(saved_models / name, f"{_PREFIX}{version}-")
    try:
        yield folder
        _sync(folder)
        check_free(saved_models, name, version)
        try:
            rename(folder, saved_models / name / str(version))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            check_free(saved_models, name, version)  # another export was faster, and what it wrote stays as it is
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _own_folder(parent, prefix):
    """A new folder and the lock on it."""
    while True:
        folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another export took it for a leftover already
            continue
        with contextlib.suppress(OSError):  # a file system without locks: nobody can take it for a leftover either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # the same, between the last two calls


def _remove_if_left(folder):
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # gone, or not ours
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # somebody writes it
        pass
    finally:
        os.close(lock)


def _make_folders(folder):
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_one(path.parent)


def _sync(folder):
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            _sync_one(path)


def _sync_one(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
