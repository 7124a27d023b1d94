"""Paths of TensorFlow Serving's REST API, read as it reads them.

Source: ``model_servers/http_rest_api_util.cc`` and ``http_rest_api_handler.cc`` of
https://github.com/tensorflow/serving. Its peculiarities are kept: a query is a part of the path (so that
``:predict?x`` is malformed), ``/V1/Models`` is fine while ``:PREDICT`` is malformed and ``/METADATA`` asks for the
status, and names are percent-decoded after matching, so that an encoded slash stays in its name.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from keras_dl.serving.server.errors import invalid

_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "POST": re.compile(
        rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<action>classify|regress|predict)", re.IGNORECASE | re.ASCII
    ),
    "GET": re.compile(
        rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<action>metadata))?", re.IGNORECASE | re.ASCII
    ),
}
_LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Target:
    """What a path names.

    Attributes:
        name: the model.
        version: its version, or None.
        label: the label of a version, or None.
        action: "predict", "classify", "regress", "metadata" or "status".
    """

    name: str
    version: int | None
    label: str | None
    action: str


def read_target(http_method: str, path: str) -> Target:
    """The target of a request.

    Args:
        http_method: such as "POST".
        path: as it was sent, with its query.

    Raises:
        tf.errors.InvalidArgumentError: it is none of the API's paths.
    """
    pattern = _PATHS.get(http_method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {http_method} {path}")
    version = match["version"]
    digits = version and (version.lstrip("0") or "0")  # Python reads no more than 4300
    if version and (len(digits) > 19 or int(digits) > _LARGEST_VERSION):
        raise invalid(f"Failed to convert version: {version} to numeric.")
    action = match["action"] or ""
    if http_method == "GET":
        action = "metadata" if action == "metadata" else "status"
    elif action != action.lower():
        raise invalid(f"Malformed request: {http_method} {path}")
    if not match["name"]:
        raise invalid("Missing model name in request.")
    label = match["label"]
    return Target(unquote(match["name"]), int(digits) if version else None, label and unquote(label), action)
