"""A model -> `saved_models/<name>/<version>/` in TF Serving's layout, whole or not at all."""

import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.serving.versions import rename, withdrawn_folder

LINEAGE = "lineage.json"

# Run Python of this process, or need a GPU or XLA: none of them works in TensorFlow Serving on a CPU.
UNSERVABLE = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3", "XlaLaunch"}


def check_writable(folder: Path) -> None:
    """Raises a UserError if nothing can be written in `folder`, which is made if missing: asked before a search."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".tmp-probe-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def export(
    pipeline: Pipeline,
    model: keras.Model,
    saved_models: Path,
    version: int,
    request: dict,
    lineage: dict | None = None,
) -> Path:
    """Exports the pipeline's signatures of a trained model.

    Written to a temporary sibling, tried, synced to disk and renamed: a server that watches the folder sees a whole
    version or none.

    Args:
        pipeline: for its name and `signatures`.
        model: trained.
        saved_models: the folder of all models.
        version: int, of the registry.
        request: an example request, `{input: array}`, which the reloaded export must answer as the model does. The key
            "" stands for the only input.
        lineage: where the model comes from, as JSON; kept in the export as `assets.extra/lineage.json`, with a digest
            of the pipeline file. Defaults to None: nothing is kept.

    Returns:
        The folder of the version.

    Raises:
        UserError: if the version is there already, the folder cannot be written or the disk is full, or a signature
            holds an operation that TensorFlow Serving cannot run.
    """
    target = saved_models / pipeline.name / str(version)
    if target.exists():
        raise UserError(f"{target} is there already: a version never changes once it is exported")
    if withdrawn_folder(saved_models, pipeline.name, version).exists():
        raise UserError(
            f"{pipeline.name} version {version} is exported, but withdrawn from serving: "
            f"keras-dl promote {pipeline.name} {version} brings it back"
        )
    check_writable(target.parent)
    temporary = target.parent / f".tmp-{version}-{os.getpid()}"
    expected = answer(pipeline, model, request)
    signatures = pipeline.signatures(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    # The first endpoint becomes the default of the archive.
    for name in sorted(signatures, key=lambda name: name != "serving_default"):
        function, inputs = signatures[name]
        archive.add_endpoint(name, function, inputs)
    try:
        archive.write_out(temporary, verbose=False)
        _check(temporary, signatures["serving_default"][1], request, expected)
        if lineage is not None:
            _write_lineage(temporary, {**lineage, "pipeline": pipeline.digest})
        _sync(temporary)
        rename(temporary, target)
    except (OSError, tf.errors.OpError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
        raise UserError(f"could not export to {target}: {reason}. Nothing is left behind there") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def answer(pipeline: Pipeline, model: keras.Model, request: dict) -> dict:
    """What the default signature answers to a request, without an export: tried on the untrained model already.

    Args:
        pipeline: for its `signatures`.
        model: trained or not.
        request: as for `export`.

    Returns:
        `{output name: tensor}`.

    Raises:
        UserError: if there is no default signature, or it and the request do not fit together.
    """
    signatures = pipeline.signatures(model)
    if "serving_default" not in signatures:
        raise UserError(f"signatures of {pipeline.name} must have 'serving_default'. Received: {', '.join(signatures)}")
    function, inputs = signatures["serving_default"]
    names = {spec.name for spec in inputs}
    if set(request) != names and not (len(names) == 1 and set(request) == {""}):
        raise UserError(
            f"request(example) must give {', '.join(sorted(names))}. Received: {', '.join(sorted(request))}"
        )
    try:
        return function(*_tensors(inputs, request))
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the signature of {pipeline.name} cannot answer its own request: {reason}") from error


def _tensors(inputs, request):
    return [tf.cast(request[spec.name if spec.name in request else ""], spec.dtype) for spec in inputs]


def _check(folder, inputs, request, expected):
    loaded = tf.saved_model.load(str(folder))
    for name, function in loaded.signatures.items():
        graph = function.graph
        used = {node.op for node in graph.as_graph_def().node}
        used |= {node.op for part in graph.as_graph_def().library.function for node in part.node_def}
        if used & UNSERVABLE:
            raise UserError(f"signature {name!r} cannot be served: it holds {', '.join(sorted(used & UNSERVABLE))}")
    tensors = _tensors(inputs, request)
    got = loaded.signatures["serving_default"](**{spec.name: t for spec, t in zip(inputs, tensors, strict=True)})
    for name, tensor in expected.items():
        before, after = tensor.numpy(), got[name].numpy()
        same = np.array_equal(before, after) if before.dtype == object else np.allclose(before, after, 1e-3, 1e-4)
        if not same:
            raise UserError(f"the export answers otherwise than the model: {name} is {after}, expected {before}")


def _sync(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _write_lineage(folder, lineage):
    # TensorFlow Serving's place for what is no model: it passes over it, as TensorFlow does.
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")
