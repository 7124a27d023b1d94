"""Text files line by line, with errors that name the line."""

import hashlib
from pathlib import Path

from keras_dl.errors import UserError


def read_lines(path: Path) -> list[str]:
    r"""The lines of a text file in UTF-8, without their ends: `"\n"` or `"\r\n"`, and no other, ends a line.

    Raises:
        UserError: if it cannot be read, or holds bytes that are no UTF-8 (with the line).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the text {path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise UserError(f"{path}:{line}: expected text in UTF-8. Received: byte 0x{byte:02x}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def deal(texts, seed: str, shares: tuple[float, float]) -> dict[str, str]:
    """The split of each text, the same for a seed wherever and in whatever order the texts come.

    Args:
        texts: the different texts.
        seed: str.
        shares: of the texts, to train and to validate on; the rest is the test split. Each split gets one at least, if
            there are three.

    Returns:
        `{text: "train", "validation" or "test"}`.

    Example:

    >>> sorted(deal(["a", "b", "c", "d"], seed="0", shares=(0.5, 0.25)).values())
    ['test', 'train', 'train', 'validation']
    """
    order = sorted(texts, key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    held = [max(1, round(len(order) * share)) for share in (shares[1], 1 - sum(shares))]
    names = ["validation"] * held[0] + ["test"] * held[1]
    return dict(zip(order, names + ["train"] * (len(order) - len(names)), strict=True))
