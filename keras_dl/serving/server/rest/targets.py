"""Parses paths of TensorFlow Serving's REST API.

Source: ``model_servers/http_rest_api_util.cc`` and ``http_rest_api_handler.cc`` of
https://github.com/tensorflow/serving. Its peculiarities are reproduced: a query is part of the path (``:predict?x`` is
malformed), ``/V1/Models`` is valid while ``:PREDICT`` is malformed and ``/METADATA`` returns the status, and names are
percent-decoded after matching, so that an encoded slash stays part of a name.
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
    """The target of a path.

    Attributes:
        name: name of the model.
        version: version of the model, or None.
        label: label of a version, or None.
        action: "predict", "classify", "regress", "metadata" or "status".
    """

    name: str
    version: int | None
    label: str | None
    action: str


def read_target(http_method: str, path: str) -> Target:
    """Parses the target of a request.

    Args:
        http_method: HTTP method, such as "POST".
        path: raw path, including the query.

    Raises:
        tf.errors.InvalidArgumentError: if the path is not part of the API.
    """
    pattern = _PATHS.get(http_method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {http_method} {path}")
    version = match["version"]
    digits = version and (version.lstrip("0") or "0")  # Python parses no more than 4300
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
