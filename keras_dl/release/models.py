"""Storing Keras models as MLflow models: in Keras format, and as a graph that does not require keras_dl."""

import importlib.metadata
import warnings

import keras
import mlflow
import numpy as np
import tensorflow as tf
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from keras_dl.compat.mlflow import keras_flavor
from keras_dl.errors import UserError, reason_of
from keras_dl.release.registry import files_missing

# Subfolder with the graph. It is an MLflow model itself, which pyfunc loads.
GRAPH = "graph"


def log_model(model: keras.Model, example) -> str:
    """Logs a Keras model to the active run, with a signature of variable batch and time axes; returns the model's URI.

    The model is stored twice: as `.keras`, for `load_version` and `mlflow.keras.load_model`, and as a TensorFlow graph,
    for `mlflow.pyfunc.load_model` without keras_dl. A model with several outputs, or one that TensorFlow cannot trace,
    has no graph: the run's tag `pyfunc` states the reason, and pyfunc then requires keras_dl to be imported. `example`
    is one batch of inputs, an array or a structure of arrays, which is logged with the model.
    """
    inputs = keras.tree.map_structure(_array, example)
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "numpy")]
    signature = ModelSignature(*map(_schema, _inputs_and_outputs(model, inputs)))

    def add_graph(path, mlflow_model):
        obstacle = _save_graph(model, path, signature)
        if obstacle:
            mlflow.set_tag("pyfunc", f"needs keras_dl: {obstacle}"[:4000])
        else:
            mlflow_model.flavors["python_function"]["data"] = GRAPH
            mlflow_model.save(str(path / "MLmodel"))

    info = Model.log(
        artifact_path=None,
        name="model",
        flavor=keras_flavor(add_graph),
        model=model,
        signature=signature,
        input_example=inputs if isinstance(inputs, np.ndarray | dict) else None,
        pip_requirements=requirements,
        validate_serving_input=False,  # it would load the model and call predict, which prints a progress bar
    )
    return info.model_uri


def _array(tensor):
    """Converts a tensor to a NumPy array, with str instead of bytes, which MLflow cannot write."""
    array = keras.ops.convert_to_numpy(tensor)
    return np.array([text.decode() for text in array.flat]).reshape(array.shape) if array.dtype == object else array


def _save_graph(model, path, signature):
    """Writes the graph in the format that mlflow.keras reads; returns None, or the reason why there is no graph.

    MLflow's `save_exported_model` is not used: it passes several inputs as positional arguments, the second one as
    `training`.
    """
    if len(signature.outputs.inputs) > 1:
        return "it has several outputs"
    specs = [tf.TensorSpec([None, *_free(spec.shape[1:])], spec.type, spec.name) for spec in signature.inputs.inputs]
    inputs = specs[0] if specs[0].name is None else {spec.name: spec for spec in specs}
    archive = keras.export.ExportArchive()
    archive.track(model)
    try:
        archive.add_endpoint("serve", lambda x: model(x, training=False), [inputs])
        archive.write_out(str(path / GRAPH / "data" / "model"), verbose=False)
    except Exception as error:  # layers may raise anything while they are traced
        return f"TensorFlow cannot trace it ({reason_of(error)})"
    described = Model()
    described.add_flavor("keras", data="data", save_exported_model=True)
    described.save(str(path / GRAPH / "MLmodel"))
    return None


def _free(shape):
    return [None if size == -1 else size for size in shape]


def _inputs_and_outputs(model, example):
    """Returns the symbolic inputs and outputs of a model; those of a subclassed model are inferred from an example."""
    if getattr(model, "inputs", None):
        return model.inputs, model.outputs
    inputs = keras.tree.map_structure(
        lambda array: keras.KerasTensor((*[None] * (array.ndim - 1), array.shape[-1]), array.dtype), example
    )
    return keras.tree.flatten(inputs), keras.tree.flatten(model.compute_output_spec(inputs))


def _schema(tensors):
    names = [tensor.name if len(tensors) > 1 else None for tensor in tensors]
    shapes = [[-1, *(-1 if size is None else size for size in tensor.shape[1:])] for tensor in tensors]
    return Schema(
        [
            TensorSpec(np.dtype("str" if tensor.dtype == "string" else tensor.dtype), shape, name)
            for tensor, shape, name in zip(tensors, shapes, names, strict=True)
        ]
    )


def load_version(version, custom_objects: dict) -> keras.Model:
    """Loads the Keras model of a `ModelVersion` in safe mode, without executing code from the file.

    Raises:
        UserError: if the model has a class or function that is neither registered with Keras nor in `custom_objects`,
            or one that would execute code, such as a Lambda layer; or if its files cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # The state of the optimizer is not needed: training never resumes from a version.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
            return mlflow.keras.load_model(f"models:/{version.name}/{version.version}", custom_objects=custom_objects)
    except (OSError, mlflow.MlflowException) as error:
        raise files_missing(version, version.source, error) from error
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{version.name} version {version.version} cannot be loaded: {reason_of(error)}") from error
