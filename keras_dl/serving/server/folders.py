"""Reads a model's folder: its versions, changes to them, and links that point outside of it.

Source: ``sources/storage_path/file_system_storage_path_source.cc`` of https://github.com/tensorflow/serving.
"""

import os
import re
from pathlib import Path

import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.errors import code_name

_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*([+-]?[0-9]{1,4000})[ \t\n\v\f\r]*"
)  # as absl::SimpleAtoi; Python converts no more than 4300 digits


def wanted_versions(config: ModelConfig) -> dict[int, Path]:
    """Returns the versions in a model's folder that its policy selects, with their folders.

    Every child whose name parses as a 64-bit integer is a version: ``1``, ``00000123`` or ``+1``. If two names parse to
    the same number, the last one in sorted order is used.

    Raises:
        OSError: if the folder cannot be read.
        ValueError: if its name contains a zero byte.
    """
    versions = {}
    for child in sorted(os.listdir(config.base_path)):
        number = version_number(child)
        if number is not None:
            versions[number] = config.base_path / child
    policy = config.policy
    if policy.specific is not None:
        return {number: versions[number] for number in policy.specific if number in versions}
    newest = sorted(versions, reverse=True)
    return {number: versions[number] for number in newest[: policy.latest]}


def version_number(name: str) -> int | None:
    """Returns the version number in a folder's name, or None if the name is not a number."""
    match = _NUMBER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def check_links(base_path: Path, folder: Path) -> None:
    """Checks that no link to or inside a version points outside of its model's folder, and that the version contains
    only files and folders: reading from a pipe would block forever.

    The model's folder itself may be a link to any place: a user who can create it can serve any model anyway.

    Raises:
        PermissionError: if the check fails; the message does not contain the target of a link.
        OSError: if the folder cannot be read or does not exist.
    """
    root = os.path.realpath(base_path)
    seen, pending = set(), [str(folder)]
    while pending:
        real = os.path.realpath(pending.pop())
        if os.path.commonpath([root, real]) != root:
            raise PermissionError("a link points outside the base path")
        if real not in seen and os.path.isdir(real):
            with os.scandir(real) as entries:
                pending += [entry.path for entry in entries if entry.is_symlink() or not entry.is_file()]
        elif os.path.exists(real) and not os.path.isdir(real) and not os.path.isfile(real):
            raise PermissionError("it contains something that is neither a file nor a folder")
        seen.add(real)


def fingerprint(folder: Path) -> frozenset:
    """Returns a value that changes when files of a version are added or written, or get different permissions."""
    found = set()
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)
            try:
                stat = os.stat(path)
            except OSError:  # removed in the meantime
                continue
            found.add((path, stat.st_size, stat.st_ctime_ns))
    return frozenset(found)


def describe_load_failure(error: Exception, folder: Path, name: str) -> tuple[str, str]:
    """Returns the canonical code and a one-line message of a failure to load a version, for its status.

    Args:
        error: the exception.
        folder: the version's folder, which the message must not reveal.
        name: replaces the folder in the message.
    """
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Graph execution error")]
    if isinstance(error, tf.errors.OpError):
        code = code_name(error)
    elif isinstance(error, OSError):
        code = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "NOT_FOUND"
    else:
        code = "UNKNOWN"
    line = lines[0] if lines else type(error).__name__
    return code, line.replace(os.path.realpath(folder), name).replace(str(folder), name)
