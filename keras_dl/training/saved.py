"""Tests, before training, whether a model can be saved and loaded without a change in its outputs."""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_dl.compat.keras import flat_layers
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.training.reuse.description import trusted


def check_saved(pipeline: Pipeline, model: keras.Model, inputs) -> str | None:
    """Saves a built model as `.keras` and loads it; if it has user-defined layers, compares outputs for some inputs.

    Returns a note if the model can be loaded only in part or only by executing code, so that `keras-dl evaluate` will
    refuse it. Raises UserError if it cannot be saved or loaded, or its outputs change.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the state of an optimizer that is not built yet
        file = Path(folder) / "model.keras"
        try:
            model.save(file)
        except Exception as error:  # `get_config` may raise anything
            raise _refused(pipeline, model, "saved", error) from error
        try:
            again = keras.saving.load_model(file, custom_objects=pipeline.custom_objects)
        except Exception as error:  # as may `from_config`
            if "safe_mode" in str(error):
                return f"{pipeline.name} has a Python lambda: keras-dl evaluate will refuse to load the saved model"
            try:
                keras.saving.load_model(file, custom_objects=pipeline.custom_objects, compile=False)
            except Exception as error:
                raise _refused(pipeline, model, "loaded", error) from error
            return (
                f"keras-dl evaluate will not be able to load the loss or metrics of {pipeline.name} "
                f"({_reason(error)}): define them at the top level of the pipeline's file"
            )
    classes = sorted({type(layer).__name__ for layer in flat_layers(model) if not trusted(type(layer))})
    if classes and _differ(model, again, inputs):
        raise UserError(
            f"the model of {pipeline.name} has different outputs after it was saved and loaded: get_config of "
            f"{', '.join(classes)} must contain all arguments of the constructor"
        )
    return None


def _refused(pipeline, model, action, error):
    failing = {}
    for layer in flat_layers(model):
        if layer is model:
            continue
        try:
            config = keras.saving.serialize_keras_object(layer)
            if action == "loaded":
                keras.saving.deserialize_keras_object(config, custom_objects=pipeline.custom_objects)
        except Exception as reason:
            failing[layer] = reason
    layer, error = failing.popitem() if failing else (None, error)  # the innermost comes last
    what = f"layer {layer.name} ({type(layer).__name__})" if layer is not None else "the model"
    reason = _reason(error)
    fix = "implement get_config" if action == "saved" else "check get_config and from_config"
    if reason.startswith("Could not locate"):
        fix = "define it in the pipeline's file, or import it at the top of that file"
    return UserError(f"{what} of {pipeline.name} could not be {action} after training: {reason}. Fix: {fix}")


def _reason(error):
    text = " ".join(str(error).split()).rpartition("Exception encountered: ")[2] or type(error).__name__
    for end in (". Make sure", " Full object config", " Example:", " Consider", " config="):
        text = text.partition(end)[0]
    return text[:300].rstrip(". :")


def _differ(model, again, inputs):
    """Returns whether two models have different outputs, although the first one is deterministic."""
    try:
        first = model(inputs, training=False)
    except Exception:  # a model that is not called with its inputs alone
        return False
    if _equal(first, again(inputs, training=False)):
        return False
    return _equal(first, model(inputs, training=False))  # otherwise the export reports it


def _equal(first, second):
    first, second = keras.tree.flatten(first), keras.tree.flatten(second)
    return len(first) == len(second) and all(map(_close, first, second))


def _close(first, second):
    first, second = (np.asarray(keras.ops.convert_to_numpy(each)) for each in (first, second))
    if first.shape != second.shape or first.dtype.kind in "OSU":
        return first.shape == second.shape and bool(np.all(first == second))
    return np.allclose(first.astype("float64"), second.astype("float64"), rtol=1e-2, atol=1e-4, equal_nan=True)
