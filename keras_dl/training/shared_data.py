"""Data made once for all trainings that want the same."""

import keras_tuner as kt

from keras_dl.data import Splits
from keras_dl.pipeline import Pipeline


class SharedData:
    """The splits of a pipeline, made anew only where a value differs that `data(hp)` asked for.

    Data whose order does not depend on `Splits.epoch` are made anew each time: the order of an iteration might depend
    on how many there were before.

    Args:
        pipeline: `Pipeline`.
        most: int, so many are kept: those made last. Defaults to 8.
    """

    def __init__(self, pipeline: Pipeline, most: int = 8):
        self.pipeline, self.most = pipeline, most
        self._kept = []  # what was asked for, with the answers; the splits

    def __call__(self, values: kt.HyperParameters) -> Splits:
        """The splits for these values."""
        for answers, splits in self._kept:
            if all(values.values.get(name, _ABSENT) == answer for name, answer in answers.items()):
                return splits
        asking = kt.HyperParameters.from_config(values.get_config())
        asking.values = _Asked(asking.values)
        splits = self.pipeline.data(asking)
        values.merge(asking, overwrite=False)  # what is asked for the first time here
        if splits.epoch is not None and not asking.values.whole:
            self._kept = [*self._kept[-self.most + 1 :], (asking.values.answers(), splits)]
        return splits


_ABSENT = object()


class _Asked(dict):
    """Values that remember which of them were asked for, be it whether they are there, or else that all were."""

    def __init__(self, values):
        super().__init__(values)
        self.asked, self.whole = set(), False

    def answers(self):
        """What was asked for, with its value or `_ABSENT`."""
        return {name: super(_Asked, self).get(name, _ABSENT) for name in self.asked}

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name):
        self.asked.add(name)
        return super().__contains__(name)

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)

    def __iter__(self):
        self.whole = True
        return super().__iter__()

    def keys(self):
        self.whole = True
        return super().keys()

    def items(self):
        self.whole = True
        return super().items()

    def values(self):
        self.whole = True
        return super().values()

    def copy(self):
        self.whole = True
        return super().copy()
