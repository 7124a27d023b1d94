"""Atomic creation of a version's folder: written under a temporary name, synced to disk, renamed.

An operating system lock marks a folder that is being written. The lock ends with its process, even if it is killed, and
distinguishes folders of killed processes from those of running ones even if process ids are reused.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.versions import rename, withdrawn_folder

_PREFIX = ".tmp-export-"


def check_writable(folder: Path) -> None:
    """Raises a UserError if `folder`, which is created if missing, is not writable."""
    try:
        _make_folders(folder)
        tempfile.TemporaryFile(dir=folder).close()  # has no name, so a kill leaves no file
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def check_free(saved_models: Path, name: str, version: int) -> None:
    """Raises a UserError if the version already exists, served or withdrawn."""
    target = saved_models / name / str(version)
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} already exists: exported versions are never changed")
    if withdrawn_folder(saved_models, name, version).exists():
        raise UserError(
            f"{name} version {version} is already exported, but withdrawn from serving: "
            f"restore it with keras-dl promote {name} {version}"
        )


@contextlib.contextmanager
def staged(saved_models: Path, name: str, version: int) -> Iterator[Path]:
    """Yields an empty folder that becomes the version on success, and is removed on an exception.

    The folder is unique for each process and thread. Folders left by killed processes are removed first. UserError is
    raised if the version exists, or another process created it in the meantime.
    """
    check_free(saved_models, name, version)
    check_writable(saved_models / name)
    for leftover in (saved_models / name).glob(f"{_PREFIX}*"):
        _remove_if_abandoned(leftover)
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
            check_free(saved_models, name, version)  # another export created it first, and keeps it
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _own_folder(parent, prefix):
    """Creates a folder and locks it; returns both."""
    while True:
        folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another export removed it as abandoned
            continue
        with contextlib.suppress(OSError):  # a file system without locks: no other export can lock it either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # removed between the last two calls


def _remove_if_abandoned(folder):
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # already removed, or no permission
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # still being written
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
