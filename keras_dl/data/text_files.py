"""Reading of text files, and assignment of texts to splits."""

import hashlib
from pathlib import Path

from keras_dl.errors import UserError


def read_lines(path: Path) -> list[str]:
    r"""Reads the lines of a UTF-8 text file, without line endings. Only `"\n"` and `"\r\n"` end a line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the text {path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise UserError(f"{path}:{line}: expected UTF-8 text. Received: byte 0x{byte:02x}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def deal(texts, seed: str, shares: tuple[float, float]) -> dict[str, str]:
    """Assigns each text to a split, reproducibly for a seed and independent of the order of the distinct texts.

    `shares` are those of the training and validation splits; the rest is the test split. With three or more texts, each
    split gets at least one.

    Example:

    >>> sorted(deal(["a", "b", "c", "d"], seed="0", shares=(0.5, 0.25)).values())
    ['test', 'train', 'train', 'validation']
    """
    order = sorted(texts, key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    validation, test = (max(1, round(len(order) * share)) for share in (shares[1], 1 - sum(shares)))
    names = ["validation"] * validation + ["test"] * test
    return dict(zip(order, names + ["train"] * (len(order) - len(names)), strict=True))
