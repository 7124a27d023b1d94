"""Data that are created once for all training runs with the same data hyperparameters."""

import keras_tuner as kt

from keras_dl.data import Splits
from keras_dl.pipeline import Pipeline


class SharedData:
    """A cache of the splits of a pipeline, by the hyperparameters that `data(hp)` reads; the last `size` are kept.

    Data whose order does not depend on `Splits.epoch` are not cached: the order of an iteration might depend on the
    number of earlier iterations.
    """

    def __init__(self, pipeline: Pipeline, size: int = 8):
        self.pipeline, self.size = pipeline, size
        self._cached = []  # pairs of the values that were read and the splits

    def __call__(self, values: kt.HyperParameters) -> Splits:
        """Returns the splits for these hyperparameters."""
        for read, splits in self._cached:
            if all(values.values.get(name, _ABSENT) == value for name, value in read.items()):
                return splits
        hp = kt.HyperParameters.from_config(values.get_config())
        hp.values = _RecordedReads(hp.values)
        splits = self.pipeline.data(hp)
        values.merge(hp, overwrite=False)  # entries that are new
        if splits.epoch is not None and not hp.values.all_read:
            self._cached = [*self._cached[-self.size + 1 :], (hp.values.read_values(), splits)]
        return splits


_ABSENT = object()


class _RecordedReads(dict):
    """A dictionary that records which keys were read or tested, or that all were listed."""

    def __init__(self, values):
        super().__init__(values)
        self.read, self.all_read = set(), False

    def read_values(self):
        """Returns the keys that were read, with their values or `_ABSENT`."""
        return {name: super(_RecordedReads, self).get(name, _ABSENT) for name in self.read}

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name):
        self.read.add(name)
        return super().__contains__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)

    def __iter__(self):
        self.all_read = True
        return super().__iter__()

    def keys(self):
        self.all_read = True
        return super().keys()

    def items(self):
        self.all_read = True
        return super().items()

    def values(self):
        self.all_read = True
        return super().values()

    def copy(self):
        self.all_read = True
        return super().copy()
