"""Compiled models shared by training runs that differ only in numbers that do not change the graph."""

from keras_dl.training.reuse.compiled_models import CompiledModels

__all__ = ["CompiledModels"]
