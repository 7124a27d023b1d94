"""Patches and private parts of Keras Tuner."""

import contextlib
import math
import os

import keras_tuner as kt
import keras_tuner.src.config as kt_config
import keras_tuner.src.utils as kt_utils
from keras_tuner.src.engine.base_tuner import BaseTuner
from keras_tuner.src.engine.hyperparameters.hp_types.int_hp import Int
from keras_tuner.src.engine.hyperparameters.hp_types.numerical import Numerical
from keras_tuner.src.engine.metrics_tracking import MetricObservation
from keras_tuner.src.engine.oracle import synchronized
from keras_tuner.src.engine.stateful import Stateful
from keras_tuner.src.engine.trial import Trial

from keras_dl.durable import write_json

__all__ = [
    "BaseTuner",  # `kt.Tuner` assumes that every trial is a call of Keras' `fit` with its checkpoints
    "MetricObservation",  # replaces an epoch that a resumed trial reports again
    "Stateful",  # reads the state of an oracle without the files of its trials
    "TESTED",
    "Trial",  # not exported by keras_tuner
    "add_missing_entries",
    "ids_in_order",
    "without_chief",
    "synchronized",  # the lock of an oracle, for methods that override synchronized ones
]

TESTED = ">=1.4.7,<1.5"

# Keras Tuner writes its state in place: a kill while it writes would lose the search.
kt_utils.save_json = write_json

# The traceback of a failed trial is stored in its run; Keras Tuner would also print it into the live table.
kt_config.DEBUG = False


# Ranges in Keras Tuner 1.4.7 and 1.4.8: `hp.Float("rate", 0.0, 0.5, step=0.1)` never returns 0.5, because a quotient is
# rounded down (keras-tuner#1001), and returns 0.30000000000000004; a grid over an `hp.Int` with sampling="log" contains
# floats; an `hp.Int` without a step returns one more than the maximum for a probability of 1.
_get_value_by_index, _to_prob_with_step = Numerical._get_value_by_index, Numerical._to_prob_with_step
_prob_to_value = Int.prob_to_value


def _number_of_values(self):
    if self.sampling == "linear":
        steps = (self.max_value - self.min_value) / self.step
    else:
        steps = math.log(self.max_value / self.min_value, self.step)
    return math.floor(steps + 1e-8) + 1


def _value_at(self, index):
    value = _get_value_by_index(self, index)
    value = round(value) if isinstance(self, Int) else float(f"{value:.12g}")
    return min(max(value, self.min_value), self.max_value)


def _probability(self, value):
    if self.sampling != "linear":
        return _to_prob_with_step(self, value)
    return (round((value - self.min_value) / self.step) + 0.5) / _number_of_values(self)


Numerical._get_n_values, Numerical._get_value_by_index = _number_of_values, _value_at
Numerical._to_prob_with_step = _probability
Int.prob_to_value = lambda self, probability: min(_prob_to_value(self, probability), self.max_value)


@contextlib.contextmanager
def without_chief():
    """Hides the variables of Keras Tuner's distributed search, which would connect this search to another one.

    A tuner reads them when it is created and when its search starts; keras_dl has its own chief and workers.
    """
    names = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def add_missing_entries(space: kt.HyperParameters, other: kt.HyperParameters) -> kt.HyperParameters:
    """Returns a copy of `space` with the entries of `other` that it lacks.

    `HyperParameters.merge` alone would overwrite ranges that have changed since `other` was saved.
    """
    merged = kt.HyperParameters()
    merged.merge(list(space.space))
    merged.merge([entry for entry in other.space if not merged._exists(entry.name, entry.conditions)])
    return merged


def ids_in_order(linked_list) -> list[str]:
    """Returns the trial ids in the linked list of a `GridSearchOracle`, which the oracle does not save."""
    order, index = [], linked_list._next_index[None]
    while index is not None:
        order.append(linked_list._memory[index])
        index = linked_list._next_index[index]
    return order
