"""Private parts of Keras."""

import warnings

import keras
from keras.src.backend.common import global_state
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell
from keras.src.random.seed_generator import global_seed_generator as make_global_seed_generator
from keras.src.trainers.compile_utils import CompileLoss, CompileMetrics
from keras.src.utils.naming import reset_uids, to_snake_case

__all__ = [
    "CompileLoss",  # compiled losses and metrics, which training/reuse compares between models
    "CompileMetrics",
    "DropoutRNNCell",  # keras.layers.RNN looks for this base class to reset the dropout masks of a cell
    "TESTED",
    "flat_layers",
    "global_seed_generator",
    "is_distributed",
    "make_global_seed_generator",  # recreates it when a training run that had one resumes
    "reset_fit_state",
    "reset_layer_names",
    "trained_variables",
    "to_snake_case",  # recognizes generated names of layers
]

TESTED = ">=3.15,<3.16"

# `fit` warns about every data set of unknown length, such as a bucketed one.
warnings.filterwarnings("ignore", message="Your input ran out of data", category=UserWarning)


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model and of the layers in it; Keras has no public way to list nested layers."""
    return list(model._flatten_layers())


def reset_layer_names() -> None:
    """Restarts the counters in generated layer names, so that a model has the same names in every process.

    `keras.backend.clear_session` would do so too, but it also resets the global seed generator, which graphs refer to.
    """
    reset_uids()


def global_seed_generator():
    """Returns the seed generator shared by layers without a seed, or None; graphs may hold its variable."""
    return global_state.get_global_attribute("global_seed_generator")


def reset_fit_state(model: keras.Model) -> None:
    """Clears the state, other than variables, that an earlier `fit` left in a model."""
    model.stop_training, model._initial_epoch = False, None


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the variables that an optimizer was built for."""
    return list(optimizer._trainable_variables)


def is_distributed(model: keras.Model) -> bool:
    """Whether a model was built under a TensorFlow distribution strategy."""
    return model._distribute_strategy is not None
