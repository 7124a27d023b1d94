"""Registers the classes of this package with Keras when a saved model first needs one.

Keras finds a class by its registered name, and a module registers its classes when it is imported. Without this
module, a file could be loaded only after the right modules were imported, and `import keras_dl` imports none of them,
to stay fast.
"""

import importlib
import importlib.abc
import importlib.util
import sys

_REGISTRY = "keras.src.saving.object_registration"
_PARTS = "layers", "losses", "metrics", "models", "models.seq2seq", "migration"


def register_on_demand():
    """Prepares Keras, now or as soon as it is imported."""
    if _REGISTRY in sys.modules:
        _prepare(sys.modules[_REGISTRY])
    else:
        sys.meta_path.insert(0, _WaitForKeras())


class _OnDemand(dict):
    """Registered objects by name; an unknown name of this package imports all parts of it first."""

    def __contains__(self, name):
        if not super().__contains__(name) and isinstance(name, str) and name.startswith("keras_dl>"):
            for part in _PARTS:
                importlib.import_module(f"keras_dl.{part}")
        return super().__contains__(name)


class _WaitForKeras(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            _prepare(module)

        spec.loader.exec_module = exec_module
        return spec


def _prepare(registry):
    registry.GLOBAL_CUSTOM_OBJECTS = _OnDemand(registry.GLOBAL_CUSTOM_OBJECTS)
