"""Compiled models shared by trainings that differ only in numbers which do not change the graph."""

from keras_dl.training.reuse.compiled_models import CompiledModels

__all__ = ["CompiledModels"]
