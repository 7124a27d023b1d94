"""Files written, and folders removed, whole or not at all: who is killed meanwhile finds the old one."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

from keras_dl.errors import UserError

# What no other trial, or another attempt, would survive either.
_EXHAUSTED = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "read-only"}


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file, on disk when this returns.

    Raises:
        OSError: if it cannot be written; the old file, if any, is as it was.
    """
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
    """Writes JSON as `write_bytes` does; returns the text.

    Raises:
        OSError: as `write_bytes`.
        TypeError: for what JSON cannot say.
    """
    text = json.dumps(content)
    write_bytes(path, text.encode())
    return text


def remove_folder(folder: Path) -> None:
    """Removes a folder, if it is there, at once: who is killed meanwhile leaves nothing that looks like it."""
    doomed = folder.parent / f".tmp-done-{folder.name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, doomed)
    for leftover in folder.parent.glob(f".tmp-done-{folder.name}-*"):  # of others, who were killed
        shutil.rmtree(leftover, ignore_errors=True)


def check_space(folder: Path, needed: int) -> None:
    """Raises a UserError if fewer than `needed` bytes are free where `folder` lies: asked before any work."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder} has {free / 1e6:.0f} MB left; expected at least {needed / 1e6:.0f} MB")


def exhausted(error: BaseException) -> str | None:
    """What has run out, in words, if that is why a file could not be written; None for any other error."""
    return _EXHAUSTED.get(error.errno) if isinstance(error, OSError) else None
