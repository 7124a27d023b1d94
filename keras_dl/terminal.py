"""Text that comes from models and servers, on the terminal.

Names, answers and errors of a model that someone else made may contain control characters, which can make a terminal
hide or change what it shows.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

_KEPT = "\n\t"
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # C0, C1, direction
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _CONTROLS if chr(code) not in _KEPT}


def printable(text: str) -> str:
    """Returns a text in which control characters, except line endings and tabs, are escaped.

    Example:

    >>> print(printable("red: \\x1b[31m"))
    red: \\x1b[31m
    """
    return text.translate(_ESCAPES)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Escapes control characters in everything that Python code prints or logs."""
    with contextlib.redirect_stdout(_Printable(sys.stdout)), contextlib.redirect_stderr(_Printable(sys.stderr)):
        yield


class _Printable:
    """A text stream; everything but writing is left to the original stream."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name):
        return getattr(self._stream, name)
