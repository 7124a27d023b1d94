"""Parses JSON, accepting and rejecting the same texts as TensorFlow Serving.

Nearly every text is parsed by orjson. Texts that it rejects are parsed by `_Reader`, which is up to a hundred times
slower and therefore has a maximum size and a deadline. It behaves like RapidJSON's iterative parser with the flags of
``util/json_tensor.cc`` (https://github.com/tensorflow/serving): ``NaN``, ``Inf`` and ``Infinity`` are numbers, text
after the first value is ignored, a byte order mark and bytes that are not UTF-8 are accepted (as surrogate escapes),
half a surrogate pair is rejected, and there is no recursion, so that half a million brackets work. Integers beyond 64
bits become floats in both parsers.

Different on purpose: nesting is limited, a text of more than 16 MiB must be JSON according to RFC 8259, and of two
members with the same name, the last one is used instead of the first.
"""

import json
import math
import re
import time
from typing import Any

import orjson
import tensorflow as tf

from keras_dl.serving.server.errors import invalid

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"((?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+)"')
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(.))", re.DOTALL)
_ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
_NUMBER = re.compile(rb"-?(?:NaN|Inf(?:inity)?|(?:0|[1-9][0-9]*+)(\.[0-9]++)?([eE][+-]?[0-9]++)?)")
_SHORT_LIST = re.compile(rb'\[[^\[\]{}"]*+\]')
_CONTROL = re.compile(rb"[\x00-\x1f]")
_NO_QUOTE = "Missing a closing quotation mark in string."
# Numbers that may exceed 64 bits or the range of a double, which Python's scanner accepts.
_LARGE_NUMBER = re.compile(rb"[0-9]{19}|[eE]\+?[0-9]{3}")
_MOST_BYTES = 16 * 2**20  # of a text that orjson rejects
_VALUES_PER_CLOCK_CHECK = 1024
_WORDS = {b"t": (b"true", True), b"f": (b"false", False), b"n": (b"null", None)}


def parse(body: bytes, most_levels: int = 1_000_000, seconds: float = 10.0) -> Any:
    """Parses the first JSON value of a text.

    Args:
        body: JSON in UTF-8.
        most_levels: maximum depth of nested lists and objects. Defaults to 1,000,000.
        seconds: maximum time for parsing. Defaults to 10.

    Raises:
        tf.errors.DeadlineExceededError: if parsing takes longer.
        tf.errors.InvalidArgumentError: if the text is invalid; the message contains TF Serving's reason and the offset.
            Texts of more than 16 MiB must be JSON according to RFC 8259.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    latest = time.monotonic() + seconds
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if len(body) > _MOST_BYTES:
            raise invalid(f"JSON Parse error: {error}; NaN is not accepted above {_MOST_BYTES} bytes") from None
    return _Reader(body, most_levels, latest).document()


class _Reader:
    """Parses one text from its beginning to the end of its first value."""

    def __init__(self, body: bytes, most_levels: int, latest: float = math.inf):
        self._body = body
        self._most_levels = most_levels
        self._latest, self._values = latest, 0
        self._position = 3 if body.startswith(b"\xef\xbb\xbf") else 0

    def document(self) -> Any:
        if self._peek() in (b"", b"\0"):
            raise self._error("The document is empty.")
        containers: list[list | dict] = []  # the open ones, innermost last
        keys: list[str] = []  # name of the next value of each open object
        while True:
            self._values += 1
            if self._values % _VALUES_PER_CLOCK_CHECK == 0 and time.monotonic() > self._latest:
                raise tf.errors.DeadlineExceededError(None, None, "JSON Parse error: the text took too long to read.")
            byte = self._peek()
            if byte in (b"[", b"{"):
                value = self._short_list() if byte == b"[" else None
                if value is None:
                    self._position += 1
                    value = [] if byte == b"[" else {}
                    if not self._take(b"]" if byte == b"[" else b"}"):
                        containers.append(value)
                        if len(containers) > self._most_levels:
                            raise self._error(f"Nested deeper than {self._most_levels} levels.")
                        if byte == b"{":
                            keys.append(self._key())
                        continue
            else:
                value = self._scalar(byte)
            # Add the complete value to its container, which may complete that container as well, and so on.
            while containers:
                container = containers[-1]
                if isinstance(container, list):
                    container.append(value)
                    if self._take(b","):
                        break
                    if not self._take(b"]"):
                        raise self._error("Missing a comma or ] after an array element.")
                else:
                    container[keys.pop()] = value
                    if self._take(b","):
                        keys.append(self._key())
                        break
                    if not self._take(b"}"):
                        raise self._error("Missing a comma or } after an object member.")
                value = containers.pop()
            else:
                return value

    def _peek(self) -> bytes:
        self._position = _SPACE.match(self._body, self._position).end()
        return self._body[self._position : self._position + 1]

    def _take(self, byte: bytes) -> bool:
        if self._peek() != byte:
            return False
        self._position += 1
        return True

    def _key(self) -> str:
        if self._peek() != b'"':
            raise self._error("Missing a name for object member.")
        key = self._string()
        if not self._take(b":"):
            raise self._error("Missing a colon after a name of object member.")
        return key

    def _scalar(self, byte: bytes) -> Any:
        if byte == b'"':
            return self._string()
        if byte in _WORDS:
            word, value = _WORDS[byte]
            if not self._body.startswith(word, self._position):
                raise self._error("Invalid value.")
            self._position += len(word)
            return value
        match = _NUMBER.match(self._body, self._position)
        if match is None:
            raise self._error("Invalid value.")
        after = self._body[match.end() : match.end() + 1]
        fraction, exponent = match.groups()
        if match[0][-1:].isdigit() and not exponent:
            if after == b"." and not fraction:
                raise self._error("Miss fraction part in number.")
            if after in (b"e", b"E"):
                raise self._error("Miss exponent in number.")
        try:
            number = _decimal(match[0]) if fraction or exponent or not match[0][-1:].isdigit() else _whole(match[0])
        except OverflowError:
            raise self._error("Number too big to be stored in double.") from None
        self._position = match.end()
        return number

    def _string(self) -> str:
        match = _STRING.match(self._body, self._position)
        if match is None:
            # The string contains a control character, or its end is missing.
            end = _CONTROL.search(self._body, self._position)
            problem = "Invalid encoding in string." if end and end[0] != b"\0" else _NO_QUOTE
            raise self._error(problem)
        text = match[1]
        if b"\\" in text:
            text = _ESCAPE.sub(self._unescape, text)
        self._position = match.end()
        return text.decode("utf-8", "surrogateescape")

    def _unescape(self, match: re.Match) -> bytes:
        code, low, other = match.groups()
        if other == b"u":
            raise self._error("Incorrect hex digit after \\u escape in string.")
        if other:
            if other[0] not in _ESCAPES:
                raise self._error("Invalid escape character in string.")
            return bytes([_ESCAPES[other[0]]])
        point = int(code, 16)
        if 0xD800 <= point < 0xDC00 and low:
            return chr(0x10000 + ((point - 0xD800) << 10) + (int(low, 16) - 0xDC00)).encode()
        if low or 0xD800 <= point < 0xE000:
            raise self._error("The surrogate pair in string is invalid.")
        return chr(point).encode()

    def _short_list(self) -> list | None:
        """Parses a list of numbers and words, without containers and strings: the bulk of most requests."""
        match = _SHORT_LIST.match(self._body, self._position)
        if match is None:
            return None
        decoder = _LARGE_NUMBER_DECODER if _LARGE_NUMBER.search(match[0]) else _DECODER
        try:
            value = decoder.decode(match[0].decode("ascii"))
        except (ValueError, OverflowError):  # the caller finds the position of the error
            return None
        self._position = match.end()
        return value

    def _error(self, reason: str) -> Exception:
        return invalid(f"JSON Parse error: {reason} at offset: {self._position}")


def _decimal(text: bytes | str) -> float:
    number = float(text)
    if math.isinf(number) and text[-1:].isdigit():
        raise OverflowError
    return number


def _whole(text: bytes | str) -> int | float:
    if len(text) <= 20 and -(2**63) <= (number := int(text)) < 2**64:
        return number
    return _decimal(text)


_LARGE_NUMBER_DECODER = json.JSONDecoder(parse_float=_decimal, parse_int=_whole)
_DECODER = json.JSONDecoder()
