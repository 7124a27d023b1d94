"""The parts shared by training and search: checks, the lock, and the release of the best model."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import keras
import keras_tuner as kt
import tensorflow as tf

from keras_dl.data import fingerprint
from keras_dl.durable import exhausted, remove_folder
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline, splits_of
from keras_dl.release.publish import export_champion, publish
from keras_dl.release.registry import Registered, check_registry
from keras_dl.serving.export.expected import answer
from keras_dl.serving.export.staging import check_writable
from keras_dl.space import space
from keras_dl.tracking.journal import Delivery
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings
from keras_dl.training.configuration import build, hardware
from keras_dl.training.extra_state import check_saved_state
from keras_dl.training.fit import ObjectiveGuard
from keras_dl.training.saved import check_saved
from keras_dl.training.state import not_saved
from keras_dl.training.user_code import check_step, pointing_to_build


@contextlib.contextmanager
def exclusive_job(pipeline: Pipeline, settings: Settings, folder: Path, kind: str, unit: str):
    """Checks that all results can be written, connects to the store and holds the lock of the job in its folder.

    `kind` is `"training run"` or `"search"`, and `unit` is the part of the job that is never lost, `"epoch"` or
    `"trial"`; both are for messages.
    """
    check_writable(settings.saved_models)
    check_writable(folder.parent)
    connect(settings, pipeline.name)
    check_registry(pipeline.name)
    try:
        with filelock.FileLock(f"{folder}.lock", timeout=0):
            yield
    except filelock.Timeout:
        raise UserError(f"another {kind} of {pipeline.name} is running in {folder}: wait for it, or stop it") from None
    except OSError as error:
        if exhausted(error) is None:
            raise
        raise UserError(
            f"{exhausted(error)}: {error.filename or folder}. Every finished {unit} is kept in {folder}: the same "
            "command resumes"
        ) from error


def check_space(pipeline: Pipeline, values: dict) -> kt.HyperParameters:
    """Finds the search space, and tests on an untrained model what is needed after training.

    The values replace the defaults. Raises UserError as `space`, `answer`, `check_saved_state` and `check_saved` do,
    and if two calls of `data` give different test splits. What an interrupted run would lose, or what cannot be done
    with the saved model, is printed.
    """
    with hardware(pipeline), pointing_to_build(pipeline):
        found = space(pipeline, values)
        model = build(pipeline, found, pipeline.seed)
        splits, batch = _first_test_batch(pipeline, found.values)
        example = next(iter(tf.data.Dataset.from_tensors(batch).unbatch()))
        request = pipeline.request(keras.tree.map_structure(keras.ops.convert_to_numpy, example))
        answer(pipeline, model, request)  # builds a model without known inputs
        callbacks = _callbacks(pipeline, found)
        if pipeline.strategy == "none":
            metrics = check_step(model, splits.validation)
            known = all(getattr(type(model), name) is getattr(keras.Model, name) for name in ("fit", "train_step"))
            if metrics and known and not callbacks:  # each of which may add metrics
                ObjectiveGuard(pipeline.goal).check_names({*metrics, *(f"val_{name}" for name in metrics)})
        tables = check_saved_state(model)
        lost = not_saved(callbacks) + [f"a {type(table).__name__}" for table in tables]
        inputs = keras.tree.map_structure(lambda array: array[:1], keras.utils.unpack_x_y_sample_weight(batch)[0])
        note = check_saved(pipeline, model, inputs)
    if lost:
        print(f"note   not kept if this run is interrupted and resumed: {', '.join(lost)}", file=sys.stderr)
    if note:
        print(f"note   {note}", file=sys.stderr)
    return found


def _callbacks(pipeline, values):
    callbacks = pipeline.callbacks(values)
    known = isinstance(callbacks, list | tuple)
    if not known or not all(isinstance(each, keras.callbacks.Callback) for each in callbacks):
        raise UserError(
            f"callbacks(hp) of {pipeline.name} must return a list of Keras callbacks. Received: {callbacks!r}"
        )
    return callbacks


def _first_test_batch(pipeline, values):
    """Returns the splits and the first batch of the test split.

    Raises UserError if there is no batch axis, or if another call of `data` returns different examples.
    """
    splits, again = splits_of(pipeline, values), splits_of(pipeline, values)
    first, second = (next(iter(each.test)) for each in (splits, again))
    sizes = {tensor.shape[0] if tensor.shape.rank else None for tensor in tf.nest.flatten(first)}
    if len(sizes) > 1 or None in sizes:
        shapes = ", ".join(str(tensor.shape) for tensor in tf.nest.flatten(first))
        raise UserError(f"data(hp) of {pipeline.name} must return batches, with one batch size. Received: {shapes}")
    digests = [fingerprint(tf.data.Dataset.from_tensors(batch)) for batch in (first, second)]
    # Different first batches may be the same examples in a different order.
    if digests[0] != digests[1] and fingerprint(splits.test) != fingerprint(again.test):
        raise UserError(
            f"data(hp) of {pipeline.name} returns a different test split in each call, so models could not be compared"
            ": draw it with a fixed seed"
        )
    return splits, first


def check_delivered(delivery: Delivery, settings: Settings, done: str) -> None:
    """Raises UserError if the store has not received every record, so that the model cannot be registered yet.

    `done` is the subject of the message, such as `"Training is"`.
    """
    if not delivery.delivered:
        raise UserError(
            f"the store {settings.tracking_uri} does not answer, so the model cannot be registered yet. {done} done "
            "and kept: the same command resumes when the store is available"
        )


def release(
    pipeline: Pipeline,
    model: keras.Model,
    values: dict,
    settings: Settings,
    folder: Path,
    keep: int | None = None,
    spread: float | None = None,
    report: Callable[[Registered], None] = lambda version: None,
) -> Registered:
    """Publishes and exports the best model, then removes the state of the job from its folder.

    The state is removed even if the export fails: the model is registered by then. `keep` is the number of exports to
    keep besides the champion's, `spread` the standard deviation of the metric over executions (see `publish`). `report`
    is called between registration and export.
    """
    version = publish(pipeline, model, values, settings, spread)
    report(version)
    try:
        export_champion(pipeline, model, values, version, settings, keep)
    except UserError:
        remove_folder(folder)
        raise
    remove_folder(folder)
    return version
