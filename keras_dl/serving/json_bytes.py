"""Bytes in TensorFlow Serving's JSON: text if they are UTF-8, otherwise `{"b64": "..."}`."""

import base64


def to_base64(value: bytes) -> dict[str, str]:
    """Encodes bytes as `{"b64": "..."}`."""
    return {"b64": base64.b64encode(value).decode()}


def to_json(value: bytes) -> str | dict[str, str]:
    """Encodes bytes as text if they are UTF-8, otherwise as `{"b64": "..."}`.

    Example:

    >>> to_json("hä".encode()), to_json(b"\\xff")
    ('hä', {'b64': '/w=='})
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        return to_base64(value)


def from_json(value: str | dict[str, str]) -> bytes:
    """Decodes text or `{"b64": "..."}`; surrogate escapes become the bytes they stand for."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode("utf-8", "surrogateescape")
