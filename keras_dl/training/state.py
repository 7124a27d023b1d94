"""The state of a training run after an epoch, in one file from which it resumes with identical results."""

import collections
import io
import json
import random
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dl.compat.keras import global_seed_generator, make_global_seed_generator, trained_variables
from keras_dl.durable import write_bytes
from keras_dl.training.extra_state import extra_state

# `fit` sets the first two again; Keras flips the sign of the third at the first comparison in each process.
_NOT_SAVED = {"params", "_model", "min_delta"}
_VARIABLES = (keras.Variable, tf.Variable)
# Attributes that usually change; others, such as functions and objects, are assumed to be settings.
_CHANGING = (list, dict, set, collections.deque, np.random.Generator, np.random.RandomState, random.Random,
             tf.random.Generator)  # fmt: skip


def model_variables(model: keras.Model) -> list:
    """Returns the weights, states and seeds of a model, each once, without metrics, which reset every epoch."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def write_variables(path: Path, model: keras.Model) -> None:
    """Writes the variables of a model, in order and atomically."""
    _write(path, model_variables(model), {}, {})


def read_variables(path: Path, model: keras.Model) -> None:
    """Restores the variables that `write_variables` wrote for a model of the same structure.

    If the structure differs or the file is damaged, ValueError is raised and the model is unchanged.
    """
    arrays, _ = _read(path)
    _assign(model_variables(model), arrays)


def write_state(path: Path, model: keras.Model, callbacks: list, record: dict) -> None:
    """Writes the state of a training run: variables, optimizers, seeds, callbacks, and the caller's record as JSON.

    Variables that the model refers to elsewhere, such as a counter of its loss, are included. Of the callbacks, such as
    early stopping, numbers, arrays and variables are saved (see `not_saved`).
    """
    arrays, scalars = {}, []
    for number, callback in enumerate(callbacks):
        numbers = {}
        for name, value in _attributes(callback):
            if isinstance(value, _VARIABLES):
                arrays[f"{number}/{name}"] = keras.ops.convert_to_numpy(value)
            elif isinstance(value, np.generic | np.ndarray):
                arrays[f"{number}/{name}"] = value
            elif _is_arrays(value):
                arrays |= {f"{number}/{name}/{index}": item for index, item in enumerate(value)}
            elif _is_json(value):
                numbers[name] = value
        scalars.append(numbers)
    variables, optimizers = _state_of(model)
    places = {id(variable): place for place, variable in enumerate(variables)}
    built = []
    for optimizer in optimizers:
        trained = [places.get(id(variable)) for variable in trained_variables(optimizer)] if optimizer.built else None
        built.append(trained if trained and None not in trained else None)
    content = {
        "callbacks": scalars,
        "record": record,
        "optimizers": built,
        "seeds": global_seed_generator() is not None,
    }
    _write(path, _with_optimizers(variables, optimizers, content), arrays, content)


def not_saved(callbacks: list) -> list[str]:
    """Returns the attributes of callbacks, as `Class.name`, that may change and that `write_state` does not save."""
    return [
        f"{type(callback).__name__}.{name}"
        for callback in callbacks
        for name, value in _attributes(callback)
        if isinstance(value, _CHANGING) and not (_is_arrays(value) or _is_json(value))
    ]


def read_state(path: Path) -> tuple[list, dict, dict] | None:
    """Reads a state as `(variables, arrays of callbacks, content)`; None if the file is missing or damaged."""
    try:
        arrays, content = _read(path)
        count, names, _ = content["variables"], content["names"], content["callbacks"]
        return arrays[:count], dict(zip(names, arrays[count:], strict=True)), content
    except (OSError, ValueError, KeyError, TypeError):
        return None


def restore_model(model: keras.Model, arrays: list, content: dict) -> None:
    """Restores the variables from `read_state` to a built model and to its optimizers, which are built here."""
    variables, optimizers = _state_of(model)
    if len(optimizers) != len(content["optimizers"]):
        raise ValueError(f"expected {len(content['optimizers'])} optimizers. Received: {len(optimizers)}")
    shapes = [array.shape for array in arrays[: len(variables)]]
    _check_shapes(variables, shapes)
    for optimizer, trained in zip(optimizers, content["optimizers"], strict=True):
        if trained is not None and not optimizer.built:
            optimizer.build([variables[place] for place in trained])
    if content["seeds"]:
        make_global_seed_generator()
    _assign(_with_optimizers(variables, optimizers, content), arrays)


def restore_callbacks(callbacks: list, arrays: dict, scalars: list) -> None:
    """Restores the callbacks from `read_state`; call it after their `on_train_begin`."""
    if len(callbacks) != len(scalars):
        raise ValueError(f"expected {len(scalars)} callbacks. Received: {len(callbacks)}")
    for number, (callback, numbers) in enumerate(zip(callbacks, scalars, strict=True)):
        vars(callback).update(numbers)
        lists = {}
        for key, array in arrays.items():
            owner, name, *index = key.split("/")
            if int(owner) == number and index:
                lists.setdefault(name, []).append(array)
            elif int(owner) == number and isinstance(getattr(callback, name, None), _VARIABLES):
                getattr(callback, name).assign(array)
            elif int(owner) == number:
                setattr(callback, name, array[()])
        vars(callback).update(lists)


def _state_of(model):
    """Returns the variables whose values are saved, without those of the optimizers, and the optimizers."""
    extra = extra_state(model)
    return [*model_variables(model), *extra.variables], extra.optimizers


def _with_optimizers(variables, optimizers, content):
    built = [each for each, trained in zip(optimizers, content["optimizers"], strict=True) if trained is not None]
    variables = [*variables, *(variable for optimizer in built for variable in optimizer.variables)]
    if content["seeds"]:
        variables.append(global_seed_generator().state)
    # A model may contain its optimizers' variables, and one optimizer those of another.
    return list({id(variable): variable for variable in variables}.values())


def _attributes(callback):
    return [(name, value) for name, value in vars(callback).items() if name not in _NOT_SAVED]


def _is_arrays(value):
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, np.ndarray) for item in value)


def _is_json(value):
    """Returns whether a value is the same after being written as JSON and read back."""
    if isinstance(value, str | int | float | bool | None):
        return True
    if not isinstance(value, list | dict):
        return False
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False


def _write(path, variables, arrays, content):
    content = {**content, "variables": len(variables), "names": list(arrays)}
    everything = [keras.ops.convert_to_numpy(variable) for variable in variables] + list(arrays.values())
    # NumPy stores bfloat16 as raw bytes without the type; float32 represents each of its values.
    everything = [np.float32(array) if np.asarray(array).dtype.kind == "V" else array for array in everything]
    buffer = io.BytesIO()
    np.savez(buffer, np.frombuffer(json.dumps(content).encode(), np.uint8), *everything)
    write_bytes(path, buffer.getvalue())


def _read(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            content, *arrays = (file[f"arr_{number}"] for number in range(len(file.files)))
        return arrays, json.loads(content.tobytes())
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _assign(variables, arrays):
    _check_shapes(variables, [array.shape for array in arrays])
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _check_shapes(variables, found):
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != found:
        raise ValueError(f"expected variables of shapes {shapes}. Received: {found}")
