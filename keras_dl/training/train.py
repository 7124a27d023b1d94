"""A pipeline and one set of values -> a trained model, tracked and published; interrupted, it goes on."""

import contextlib
import json
import sys

import filelock
import keras_tuner as kt
import mlflow

from keras_dl.durable import exhausted, remove_folder, write_json
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline, space
from keras_dl.release.permissions import check_registry
from keras_dl.release.publish import example_request, export_champion, learning_curves, log_picture, publish
from keras_dl.release.registry import Registered
from keras_dl.serving.export.expected import answer
from keras_dl.serving.export.staging import check_writable
from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.runs import close_abandoned, connect, log_origin, open_run, reap
from keras_dl.tracking.settings import Settings
from keras_dl.training.configuration import best_model, train_configuration
from keras_dl.training.hardware import build, hardware
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData

# What must be the same for a training to go on.
SAME = ("epochs", "seed", "source", "objective", "direction", "precision", "strategy", "jit", "deterministic")


def train(
    pipeline: Pipeline, values: dict, settings: Settings, fresh: bool = False, keep: int | None = None
) -> Registered:
    """Trains with one set of values, the defaults but for those given, and publishes the best epoch's model.

    Its state lies in `searches/<name>.training/` until the model is registered and exported: stopped at any moment, the
    same call goes on after the last finished epoch, in the same run. A call with other arguments says so and begins
    anew.

    Args:
        pipeline: from `load_pipeline`.
        values: hyperparameters that differ from their defaults.
        settings: of `mlflow.yaml`.
        fresh: begin anew in any case. Defaults to False.
        keep: int, exports of this model to keep beside the champion's; None (default) keeps all.

    Raises:
        UserError: before the training, for values outside the space, an empty split, an unusable store, registry or
            folder, another training of this pipeline at the same time; later, if the objective is missing, a loss is no
            number or the disk is full.
    """
    state = settings.root / "searches" / f"{pipeline.name}.training"
    check_writable(settings.saved_models)
    check_writable(state.parent)
    connect(settings, pipeline.name)
    check_registry(settings, pipeline.name)
    try:
        with filelock.FileLock(f"{state}.lock", timeout=0):
            return _train(pipeline, values, settings, state, fresh, keep)
    except filelock.Timeout:
        raise UserError(f"another training of {pipeline.name} is running in {state}: wait for it, or stop it") from None
    except OSError as error:
        if exhausted(error) is None:
            raise
        raise UserError(
            f"{exhausted(error)}: {error.filename or state}. Every finished epoch is kept in {state}: the same command "
            "goes on from there"
        ) from error


def _train(pipeline, values, settings, state, fresh, keep):
    with hardware(pipeline):
        hp = space(pipeline, values)
        answer(pipeline, build(pipeline, hp, pipeline.seed), example_request(pipeline, hp.values))
    arguments = {"values": hp.values, "pipeline": pipeline.digest}
    arguments |= {name: getattr(pipeline, name) for name in SAME}
    earlier = _unfinished(state, arguments, fresh)
    reap(mlflow.tracking.fluent._get_experiment_id(), but={earlier})
    tags = {"kind": "train", "objective": pipeline.improves.name, "direction": pipeline.improves.direction}
    with open_run(settings, "train", tags, earlier) as run:
        state.mkdir(parents=True, exist_ok=True)
        write_json(state / "training.json", {"arguments": arguments, "run_id": run.info.run_id})
        log_origin(pipeline)
        mlflow.log_params({**hp.values, "epochs": pipeline.epochs})
        try:
            with Delivery(settings, run.info.experiment_id) as delivery:
                journal = Journal.of_run(delivery, state, run.info.run_id)
                progress = train_configuration(
                    pipeline,
                    hp,
                    state,
                    CompiledModels(),
                    SharedData(pipeline),
                    logger=EpochLogger(journal),
                    verbose=1 if sys.stdout.isatty() else 2,
                )
        except kt.errors.FailedTrialError as error:
            remove_folder(state)
            raise UserError(f"the training came to nothing: {error}") from error
        if not delivery.delivered:
            raise UserError(
                f"the store {settings.tracking_uri} does not answer, so the model cannot be registered yet. The "
                "training is done and kept: the same command goes on from here when the store is back"
            )
        curve = [pipeline.improves.value(row) for row in progress.rows]
        log_picture("learning_curve", learning_curves({"": curve}, pipeline.objective))
        mlflow.log_metric(f"best_{pipeline.improves.name}", progress.best)
        mlflow.set_tag("best_epoch", progress.best_epoch + 1)
        model = best_model(pipeline, hp, state)
        version = publish(pipeline, model, hp.values, settings)
        try:
            export_champion(pipeline, model, hp.values, version, settings, keep)
        except UserError:
            remove_folder(state)  # the model is safe, and the message says how to export it
            raise
        remove_folder(state)
        return version


def _unfinished(state, arguments, fresh):
    """The run of an earlier call with the same arguments; None, and nothing on disk, if there is none."""
    earlier = {}
    with contextlib.suppress(OSError, ValueError):
        earlier = json.loads((state / "training.json").read_text(encoding="utf-8"))
    arguments = json.loads(json.dumps(arguments))
    if earlier.get("arguments") == arguments and not fresh:
        print("goes on with a training that was stopped; --fresh begins anew")
        return earlier["run_id"]
    if "run_id" in earlier:
        close_abandoned(earlier["run_id"])
        if not fresh:
            print(f"begins anew: a training that was stopped had {_differences(earlier['arguments'], arguments)}")
    remove_folder(state)
    return None


def _differences(earlier, arguments):
    """What was otherwise, in words."""
    was, now = ({**each["values"], **each} for each in (earlier, arguments))
    changed = [name for name in (*was, *(now.keys() - was)) if name != "values" and was.get(name) != now.get(name)]
    told = [f"{name}={was[name]}" for name in changed if name in was and name != "pipeline"]
    return ", ".join([*told, *(["another pipeline file"] if "pipeline" in changed else [])]) or "other arguments"
