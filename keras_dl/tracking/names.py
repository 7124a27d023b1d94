"""Names of metrics, parameters and tags in MLflow, which accepts letters, digits, spaces and `_-.:/`."""

import hashlib
import posixpath
import re
from collections.abc import Collection, Iterable

# Prefix of the hyperparameters that Keras Tuner adds, such as `tuner/epochs`.
KERAS_TUNER = "tuner/"
_LONGEST = 250


def mlflow_names(names: Iterable[str]) -> dict[str, str]:
    """Returns `{name: MLflow name}` for all names of one run.

    Valid names are unchanged. In others, each character that MLflow rejects becomes `_`; a digest is appended to
    names that would become equal.

    >>> mlflow_names(["val_hits@3", "encoder/units"])
    {'val_hits@3': 'val_hits_3', 'encoder/units': 'encoder/units'}
    >>> mlflow_names(["units[0]", "units_0_"])
    {'units[0]': 'units_0_-a6d4d120', 'units_0_': 'units_0_'}
    """
    names = list(dict.fromkeys(names))
    cleaned = [_clean(name) for name in names]
    return {
        name: clean if clean == name or cleaned.count(clean) == 1 else _distinct(name)
        for name, clean in zip(names, cleaned, strict=True)
    }


def with_mlflow_names(values: dict) -> dict:
    """Returns `{MLflow name: value}` (see `mlflow_names`)."""
    names = mlflow_names(values)
    return {names[name]: value for name, value in values.items()}


def recorded_name(name: str, recorded: Collection[str]) -> str:
    """Returns the MLflow name that `mlflow_names` gave to a name, from all MLflow names of the run."""
    return _distinct(name) if _distinct(name) in recorded else _clean(name)


def _distinct(name):
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_clean(name)[: _LONGEST - 9]}-{digest}"


def _clean(name):
    name = re.sub(r"[^/\w.\- :]", "_", name)[:_LONGEST] or "_"
    if posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":  # would be a relative path
        name = name.replace("/", "_").replace("..", "__").strip(".") or "_"
    return name
