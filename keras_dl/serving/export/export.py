"""Exports a model to `saved_models/<name>/<version>/` in TF Serving's layout, atomically."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

from keras_dl.errors import UserError, reason_of
from keras_dl.pipeline import Pipeline
from keras_dl.serving.configuration import batching_parameters
from keras_dl.serving.export.clean import ModelFailed, clean_process, start_clean_process
from keras_dl.serving.export.endpoints import endpoints_of, write_archive
from keras_dl.serving.export.expected import expected_answers, request_arrays
from keras_dl.serving.export.manifest import build_manifest, write_manifest
from keras_dl.serving.export.measured import check_answers, measure_signatures
from keras_dl.serving.export.staging import check_free, staged
from keras_dl.serving.export.traps import graph_traps, read_graph
from keras_dl.serving.export.warmup import write_warmup
from keras_dl.tracking.environment import git_commit

# Next to saved_model.pb: with --enable_per_model_batching_parameters, only models with this file are batched.
BATCHING = "batching_params.pbtxt"


def export(
    pipeline: Pipeline, model: keras.Model, saved_models: Path, version: int, request: dict, lineage: dict | None = None
) -> Path:
    """Exports the pipeline's signatures of a trained model, and prints suggestions for improvement.

    The export is written to a temporary folder next to its destination, tested in a process without keras_dl, synced to
    disk and renamed, so a server that watches the folder never sees an incomplete version. It includes a manifest and
    warm-up requests. Returns the folder of the version.

    Args:
        pipeline, model: the pipeline and its trained model.
        saved_models: folder of all models.
        version: version number in the registry.
        request: example request, `{input: array}`, for which the export must give the same answer as the model. The key
            "" stands for the only input.
        lineage: where the model comes from, as JSON; stored as the manifest's `origin`, with a digest of the pipeline
            file. Defaults to None: nothing is stored.

    Raises:
        UserError: the version already exists, the folder cannot be written or the disk is full, a signature cannot be
            served, or the answers of the export differ from those of the model.
    """
    check_free(saved_models, pipeline.name, version)
    start_clean_process()  # its import of TensorFlow overlaps with the tracing below
    endpoints = endpoints_of(pipeline, model)
    request = request_arrays(pipeline, endpoints["serving_default"], request)
    expected = expected_answers(pipeline, endpoints["serving_default"], request)
    target = saved_models / pipeline.name / str(version)
    try:
        with staged(saved_models, pipeline.name, version) as folder:
            write_archive(model, endpoints, str(folder))
            graph = read_graph(folder)
            traps = graph_traps(graph)
            _raise_errors(traps)
            measured = _measure(folder, graph.signature_def, request, expected)
            origin = {} if lineage is None else {**lineage, "pipeline": pipeline.digest}
            commit = git_commit(pipeline.file.parent) if pipeline.file else None
            batching = {name: dataclasses.asdict(each.batching) for name, each in measured.items()}
            signatures = graph.signature_def
            write_manifest(
                folder, build_manifest(pipeline.name, version, commit, origin, signatures, batching, request)
            )
            if _may_be_batched(measured, signatures):
                (folder / BATCHING).write_text(batching_parameters(), encoding="utf-8")
            write_warmup(folder, pipeline.name, [(name, each.answered) for name, each in measured.items()])
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"could not export to {target}: {reason_of(error)}. No files were left there") from error
    notes = [*map(str, traps), *(f"{name}: {each.note()}" for name, each in measured.items() if each.note())]
    if notes:
        print(f"note   {'; '.join(notes)}")
    return target


def _may_be_batched(measured, signatures):
    """Returns True if TensorFlow Serving may batch: it does so for all signatures, and fails on unequal lengths."""
    served = [measured[name] for name in signatures if name != "__saved_model_init_op"]
    return all(each.batching.rows_independent and not each.open_axes for each in served)


def _raise_errors(traps):
    for trap in traps:
        if trap.level != "warning":
            raise UserError(f"{trap.where} cannot be served: {trap.what}. Fix: {trap.fix}")


def _measure(folder, signatures, request, expected):
    with clean_process() as process:
        try:
            process.load(folder)
        except ModelFailed as error:
            raise UserError(f"the export cannot be loaded in another process: {error}") from error
        check_answers(process, expected)
        return measure_signatures(process, signatures, request)
