"""The search space of a pipeline, and the values that a user gives for it."""

import keras
import keras_tuner as kt

from keras_dl.data.batches import Splits
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline


def space(pipeline: Pipeline, values: dict | None = None) -> kt.HyperParameters:
    """Finds the search space, with every entry and its value, by calling `data` and `build` once.

    The given values replace their defaults. UserError is raised for a name that is not in the space, a value outside
    its range or of the wrong type, an empty split, or a `data` or `build` that returns something else.
    """
    hp = _Given(values or {})
    splits = pipeline.data(hp)
    if not isinstance(splits, Splits):
        raise UserError(f"data(hp) of {pipeline.name} must return Splits. Received: {type(splits).__name__}")
    splits.check()
    model = pipeline.build(hp)
    if not isinstance(model, keras.Model) or not model.compiled:
        raise UserError(f"build(hp) of {pipeline.name} must return a compiled keras.Model. Received: {model!r}")
    unknown = set(hp.given) - {entry.name for entry in hp.space}
    if unknown:
        known = "; ".join(describe(entry) for entry in hp.space) or "none"
        raise UserError(f"unknown hyperparameter: {', '.join(sorted(unknown))}. This pipeline has: {known}")
    return hp


class _Given(kt.HyperParameters):
    """Hyperparameters with given values, each checked where its range is declared, before a layer rejects it."""

    def __init__(self, given):
        super().__init__()
        self.given = given
        self.values.update(given)

    def _retrieve(self, hp):
        if hp.name in self.given and not _allowed(hp, self.given[hp.name]):
            raise UserError(f"{hp.name}={self.given[hp.name]!r} is invalid: expected {describe(hp)}")
        return super()._retrieve(hp)


def describe(entry) -> str:
    """Returns a hyperparameter with its range: `"learning_rate from 0.0001 to 0.01 (default 0.003)"`."""
    config = entry.get_config()
    kind = type(entry).__name__
    if kind == "Choice":
        allowed = f"one of {', '.join(str(value) for value in entry.values)}"
    elif kind in ("Int", "Float"):
        step = f" in steps of {config['step']}" if config.get("step") not in (None, 1) else ""
        allowed = f"from {config['min_value']} to {config['max_value']}{step}{' (whole)' if kind == 'Int' else ''}"
    else:
        allowed = "True or False" if kind == "Boolean" else "fixed, not searched"
    return f"{entry.name} {allowed} (default {entry.default})"


def _allowed(entry, value) -> bool:
    kind = type(entry).__name__
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "Choice":
        return value in entry.values and type(value) is type(entry.values[0])
    if kind == "Boolean":
        return isinstance(value, bool)
    if kind in ("Int", "Float"):
        if not number or (kind == "Int" and not isinstance(value, int)):
            return False
        steps = (value - entry.min_value) / entry.step if entry.step and entry.sampling == "linear" else 0
        return entry.min_value <= value <= entry.max_value and abs(steps - round(steps)) < 1e-6
    return type(value) is type(entry.default)
