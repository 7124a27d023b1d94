"""Atomic file writes and folder removal: if the process is killed, the old state remains."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

from keras_dl.errors import UserError

# Errors that affect every later write as well.
_EXHAUSTED = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "read-only"}


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file atomically. It is on disk when the function returns; after an error, the old one remains."""
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: str | Path, content) -> str:
    """Writes a JSON file atomically and returns its text."""
    text = json.dumps(content)
    write_bytes(path, text.encode())
    return text


def remove_folder(folder: Path) -> None:
    """Removes a folder, if it exists, atomically: if the process is killed, no partial folder of this name remains."""
    doomed = folder.parent / f".tmp-done-{folder.name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, doomed)
    for leftover in folder.parent.glob(f".tmp-done-{folder.name}-*"):  # including those of killed processes
        shutil.rmtree(leftover, ignore_errors=True)


def check_space(folder: Path, needed: int) -> None:
    """Raises a UserError if fewer than `needed` bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder} has {free / 1e6:.0f} MB left; expected at least {needed / 1e6:.0f} MB")


def exhausted(error: BaseException) -> str | None:
    """Returns a description of the exhausted resource that made a write fail; None for any other error.

    Example:

    >>> exhausted(OSError(errno.ENOSPC, "No space left on device"))
    'the disk is full'
    """
    return _EXHAUSTED.get(error.errno) if isinstance(error, OSError) else None
