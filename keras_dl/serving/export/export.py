"""A model -> `saved_models/<name>/<version>/` in TF Serving's layout, whole or not at all."""

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

# Beside saved_model.pb: --enable_per_model_batching_parameters batches only the models that have it.
BATCHING = "batching_params.pbtxt"


def export(
    pipeline: Pipeline,
    model: keras.Model,
    saved_models: Path,
    version: int,
    request: dict,
    lineage: dict | None = None,
) -> Path:
    """Exports the pipeline's signatures of a trained model, and prints what could be better about it.

    Written to a temporary sibling, tried in a process without keras_dl, synced to disk and renamed: a server that
    watches the folder sees a whole version or none. With it go a manifest and warm-up requests.

    Args:
        pipeline: for its name and `signatures`.
        model: trained.
        saved_models: the folder of all models.
        version: int, of the registry.
        request: an example request, `{input: array}`, which the reloaded export must answer as the model does. The key
            "" stands for the only input.
        lineage: where the model comes from, as JSON; kept in the manifest as its `origin`, with a digest of the
            pipeline file. Defaults to None: nothing is kept.

    Returns:
        The folder of the version.

    Raises:
        UserError: if the version is there already, the folder cannot be written or the disk is full, a signature
            cannot be served, or the export answers otherwise than the model.
    """
    check_free(saved_models, pipeline.name, version)
    start_clean_process()  # TensorFlow takes seconds to import; the graphs take seconds too
    endpoints = endpoints_of(pipeline, model)
    request = request_arrays(pipeline, endpoints["serving_default"], request)
    expected = expected_answers(pipeline, endpoints["serving_default"], request)
    target = saved_models / pipeline.name / str(version)
    try:
        with staged(saved_models, pipeline.name, version) as folder:
            write_archive(model, endpoints, str(folder))
            graph = read_graph(folder)
            traps = graph_traps(graph)
            _refuse(traps)
            measured = _try(folder, graph.signature_def, request, expected)
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
        raise UserError(f"could not export to {target}: {reason_of(error)}. Nothing is left behind there") from error
    notes = [*map(str, traps), *(f"{name}: {each.note()}" for name, each in measured.items() if each.note())]
    if notes:
        print(f"note   {'; '.join(notes)}")
    return target


def _may_be_batched(measured, signatures):
    """Whether TensorFlow Serving may batch: it does so for all signatures, and fails requests of different lengths."""
    served = [measured[name] for name in signatures if name != "__saved_model_init_op"]
    return all(each.batching.rows_independent and not each.open_axes for each in served)


def _refuse(traps):
    for trap in traps:
        if trap.level != "warning":
            raise UserError(f"{trap.where} cannot be served: {trap.what}. To change that: {trap.fix}")


def _try(folder, signatures, request, expected):
    with clean_process() as process:
        try:
            process.load(folder)
        except ModelFailed as error:
            raise UserError(f"the export cannot be loaded in another process: {error}") from error
        check_answers(process, expected)
        return measure_signatures(process, signatures, request)
