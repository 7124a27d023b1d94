"""keras_dl: sequence learning with Keras 3, from a layer to a tuned, tracked and served model.

`from keras_dl import Pipeline`, `keras_dl.layers`, `keras_dl.losses`, `keras_dl.metrics`, `keras_dl.data`,
`keras_dl.models`, `keras_dl.ops`, `keras_dl.migration`. Importing the package itself loads none of them, so
`keras-dl --help` responds immediately; Keras still loads saved models that contain their layers.
"""

import importlib

from keras_dl.compat.registration import register_on_demand

__version__ = "0.1.0"

_MODULES = ("data", "layers", "losses", "metrics", "migration", "models", "ops")
__all__ = [*_MODULES, "Pipeline", "__version__"]

register_on_demand()


def __getattr__(name):
    if name == "Pipeline":
        return importlib.import_module("keras_dl.pipeline").Pipeline
    if name in _MODULES:
        return importlib.import_module(f"keras_dl.{name}")
    raise AttributeError(f"module 'keras_dl' has no attribute {name!r}")


def __dir__():
    return __all__
