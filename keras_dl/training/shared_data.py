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
            if all(name in values.values and values.values[name] == answer for name, answer in answers.items()):
                return splits
        asking = _Asking.from_config(values.get_config())
        splits = self.pipeline.data(asking)
        values.merge(asking, overwrite=False)  # what is asked for the first time here
        if splits.epoch is not None:
            answers = {name: asking.values[name] for name in asking.asked if name in asking.values}
            self._kept = [*self._kept[-self.most + 1 :], (answers, splits)]
        return splits


class _Asking(kt.HyperParameters):
    """Hyperparameters that remember what was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = set()

    def _retrieve(self, hp):
        self.asked.add(hp.name)
        return super()._retrieve(hp)

    def get(self, name):
        self.asked.add(name)
        return super().get(name)
