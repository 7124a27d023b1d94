"""The state of a training run after an epoch, in one file from which it resumes with identical results."""

import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_dl.durable import write_bytes

# `fit` sets the first again; Keras flips the sign of the second at the first comparison in each process.
_NOT_SAVED = {"params", "min_delta"}


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
    """Writes the state of a training run: variables, optimizer, seeds, callbacks, and a record of the caller as JSON.

    Of the callbacks, such as early stopping, numbers and arrays are saved.
    """
    arrays, scalars = {}, []
    for number, callback in enumerate(callbacks):
        numbers = {}
        for name, value in vars(callback).items():
            if name in _NOT_SAVED:
                continue
            if isinstance(value, str | int | float | bool | None):
                numbers[name] = value
            elif isinstance(value, np.generic | np.ndarray):
                arrays[f"{number}/{name}"] = value
            elif isinstance(value, list | tuple) and value and all(isinstance(item, np.ndarray) for item in value):
                arrays |= {f"{number}/{name}/{index}": item for index, item in enumerate(value)}
            elif isinstance(value, list | dict) and _is_json(value):
                numbers[name] = value
        scalars.append(numbers)
    _write(path, _all_variables(model), arrays, {"callbacks": scalars, "record": record})


def read_state(path: Path) -> tuple[list, dict, dict] | None:
    """Reads a state as `(variables, arrays of callbacks, content)`; None if the file is missing or damaged."""
    try:
        arrays, content = _read(path)
        count, names, _ = content["variables"], content["names"], content["callbacks"]
        return arrays[:count], dict(zip(names, arrays[count:], strict=True)), content
    except (OSError, ValueError, KeyError, TypeError):
        return None


def restore_model(model: keras.Model, variables: list) -> None:
    """Restores the variables from `read_state` to a built model and to its optimizer, which is built here."""
    _assign(_all_variables(model), variables)


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
            elif int(owner) == number:
                setattr(callback, name, array[()])
        vars(callback).update(lists)


def _all_variables(model):
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return model_variables(model)
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    # A model may contain its optimizer's variables.
    return list({id(variable): variable for variable in (*model_variables(model), *optimizer.variables)}.values())


def _is_json(value):
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
    shapes, found = [tuple(variable.shape) for variable in variables], [array.shape for array in arrays]
    if shapes != found:
        raise ValueError(f"expected variables of shapes {shapes}. Received: {found}")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
