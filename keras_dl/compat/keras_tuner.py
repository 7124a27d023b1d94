"""Patches and private parts of Keras Tuner."""

import keras_tuner as kt
import keras_tuner.src.config as kt_config
import keras_tuner.src.utils as kt_utils
from keras_tuner.src.engine.base_tuner import BaseTuner
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
    "synchronized",  # the lock of an oracle, for methods that override synchronized ones
]

TESTED = ">=1.4.7,<1.5"

# Keras Tuner writes its state in place: a kill while it writes would lose the search.
kt_utils.save_json = write_json

# The traceback of a failed trial is stored in its run; Keras Tuner would also print it into the live table.
kt_config.DEBUG = False


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
