"""Errors of a pipeline's model and data, found before training and reported as one line with the place to change."""

import contextlib
import traceback
from pathlib import Path

import keras
import keras_tuner as kt
import tensorflow as tf

from keras_dl.durable import exhausted
from keras_dl.errors import UserError, line_of, one_line, shown_path
from keras_dl.pipeline import Pipeline

_PACKAGE = Path(__file__).parents[1]


@contextlib.contextmanager
def pointing_to_build(pipeline: Pipeline):
    """Turns an error within the context into a UserError of one line.

    It begins with the innermost line of the pipeline's file that caused the error. Keras calls losses and metrics
    itself: without such a line, it begins with the definition of `build`.
    """
    try:
        yield
    except (UserError, kt.errors.FailedTrialError, kt.errors.FatalError):
        raise
    except Exception as error:
        if exhausted(error) or (line_of(error) is None and _is_bug(error)):
            raise
        raise UserError(f"{line_of(error) or _build_of(pipeline)}: {one_line(error)}") from error


def _is_bug(error):
    """Whether this package raised the error, other than for a wrong value."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Path(frame.filename).is_relative_to(_PACKAGE) and not isinstance(error, ValueError | TypeError)


def _build_of(pipeline):
    code = getattr(pipeline.build, "__code__", None)
    return (
        f"{shown_path(code.co_filename)}:{code.co_firstlineno} (build)"
        if code
        else f"build of {Path(pipeline.file or '').name}"
    )


def check_step(model: keras.Model, data: tf.data.Dataset) -> dict:
    """Raises the error of a loss or metric that does not fit the model's outputs and the data, without computing it.

    Returns the metrics of a validation step by name; {} if they are not known.
    """
    if model.run_eagerly:
        return {}
    step = tf.function(model.test_step, autograph=False).get_concrete_function(data.element_spec)
    logs = step.structured_outputs
    return logs if isinstance(logs, dict) and not any(isinstance(value, dict) for value in logs.values()) else {}
