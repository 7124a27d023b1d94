"""The search space of a pipeline, and the values that a user gives for it."""

import contextlib
import math

import keras
import keras_tuner as kt

from keras_dl.data.batches import Splits
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline


def space(pipeline: Pipeline, values: dict | None = None) -> "Space":
    """Finds the search space, with every entry and its value, by calling `data` and `build` once.

    The given values replace the defaults; text, as on the command line, is read as the type of its hyperparameter.
    UserError is raised for a name that is not in the space or has two ranges, a value outside its range or of the wrong
    type, an empty or endless split, or a `data` or `build` that returns something else.
    """
    hp = Space(values or {})
    splits = pipeline.data(hp)
    if not isinstance(splits, Splits):
        raise UserError(f"data(hp) of {pipeline.name} must return Splits. Received: {type(splits).__name__}")
    splits.check()
    model = pipeline.build(hp)
    if not isinstance(model, keras.Model) or not model.compiled:
        received = "a model that is not compiled" if isinstance(model, keras.Model) else repr(model)
        raise UserError(f"build(hp) of {pipeline.name} must return a compiled keras.Model. Received: {received}")
    unknown = set(hp.texts) - hp.known
    if unknown:
        known = "; ".join(describe(entry) for entry in hp.space) or "none"
        # With other values, `data` and `build` may declare others.
        more = ". Others may depend on their values: give those too" if len(hp.space) else ""
        raise UserError(f"unknown hyperparameter: {', '.join(sorted(unknown))}. This pipeline has: {known}{more}")
    return hp


class Space(kt.HyperParameters):
    """Hyperparameters with given values, each checked where its range is declared, before a layer rejects it.

    Attributes:
        given: the given values by name, as the types of their hyperparameters.
    """

    def __init__(self, texts: dict):
        super().__init__()
        self.texts, self.known, self.given = texts, set(), {}

    def _retrieve(self, hp):
        for entry in self.space:  # Keras Tuner would use the first range and ignore others
            if entry.name == hp.name and _ranges(entry) != _ranges(hp) and _conditions(entry) == _conditions(hp):
                raise UserError(f"{hp.name} is declared with two ranges: {describe(entry)}; and {describe(hp)}")
        if isinstance(hp, kt.engine.hyperparameters.Int | kt.engine.hyperparameters.Float):
            if not hp.min_value <= hp.default <= hp.max_value:
                raise UserError(f"the default of {hp.name} must be in its range. Received: {describe(hp)}")
        # The option --learning-rate is equivalent to learning_rate=.
        name = hp.name if hp.name in self.texts else hp.name.replace("-", "_")
        if name in self.texts:
            self.known.add(name)
            value = read(hp, self.texts[name])
            if not _allowed(hp, value):
                raise UserError(f"{hp.name}={self.texts[name]} is invalid: expected {describe(hp)}")
            self.given[hp.name] = value
            if self.is_active(hp):
                self.values[hp.name] = value
        return super()._retrieve(hp)


def _ranges(entry):
    return {name: value for name, value in entry.get_config().items() if name != "conditions"}


def _conditions(entry):
    return [condition.get_config() for condition in entry.conditions]


def read(entry, value):
    """Returns a value as the type of a hyperparameter, or unchanged if it cannot be read as that type.

    Text is converted, such as `"1e3"` to 1000 for an `Int` and `"true"` to True for a `Boolean`, and a whole number to
    a float for a `Float`. Text for a hyperparameter that is text may be in quotes.
    """
    is_choice = type(entry).__name__ == "Choice"
    kind = _TYPES.get(type(entry).__name__) or type(entry.values[0] if is_choice else entry.default)
    if kind is bool or (kind is int and is_choice and set(entry.values) == {0, 1}):  # a Choice stores bool as int
        words = {"true": True, "false": False} | ({"1": True, "0": False} if kind is bool else {})
        value = words.get(value.strip().lower(), value) if isinstance(value, str) else value
        return kind(value) if isinstance(value, bool) else _as_int(value) if kind is int else value
    if kind is str:
        quoted = isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        return value[1:-1] if quoted and not (is_choice and value in entry.values) else value
    return _as_int(value) if kind is int else _as_float(value)


_TYPES = {"Int": int, "Float": float, "Boolean": bool}


def _as_int(value):
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(value, str):
            return int(value) if value.strip().lstrip("+-").isdecimal() else _whole(float(value), value)
    return value


def _whole(number, text):
    return int(number) if number.is_integer() else text


def _as_float(value):
    with contextlib.suppress(ValueError):
        if isinstance(value, str) or type(value) is int:
            return float(value)
    return value


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
        return entry.min_value <= value <= entry.max_value and _is_step(entry, value)
    return type(value) is type(entry.default)


def _is_step(entry, value):
    if not entry.step:
        return True
    if entry.sampling == "linear":
        steps = (value - entry.min_value) / entry.step
    else:
        distance = value if entry.sampling == "log" else entry.max_value + entry.min_value - value
        steps = math.log(distance / entry.min_value, entry.step)
    return abs(steps - round(steps)) < 1e-6
