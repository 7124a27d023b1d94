"""Traps of a SavedModel: parts that will not work when served, or should not be run, with their fixes.

The files are read but nothing is loaded, so any SavedModel can be inspected, including untrusted ones and those of
TensorFlow 1.
"""

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from keras_dl.compat.tensorflow import op_def_registry
from keras_dl.errors import UserError
from keras_dl.serving.export.graph import (
    ELSEWHERE,
    LOADING,
    RESTORING,
    SAVING,
    Sources,
    asset_files,
    assets,
    called_by,
    operations_by_place,
)
from keras_dl.serving.export.operations import READS_ASSET, RESTORES, rule_of
from keras_dl.serving.export.warmup import WARMUP

LEVELS = ("unsafe", "error", "warning")
_NO_JSON = {tf.float16, tf.bfloat16, tf.complex64, tf.complex128}
_GENERATED_INPUT = re.compile(r"keras_tensor(_\d+)?|args_\d+|input_\d+|input_layer(_\d+)?")
_GENERATED_OUTPUT = re.compile(r"output_\d+")
_INIT = "__saved_model_init_op"
_VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}


@dataclass(frozen=True)
class Trap:
    """A problem in a SavedModel: where it is, what it is and how to fix it.

    The level is "unsafe" (it reaches outside the graph), "error" (it fails in TensorFlow Serving) or "warning".
    """

    level: str
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.what}. {self.fix[0].upper()}{self.fix[1:]}"


def read_graph(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """Reads the graph of a SavedModel that a server loads, the one tagged `serve`; UserError if there is none."""
    return _served_graphs(_read(folder), folder)[0]


def find_traps(folder: Path, saved: saved_model_pb2.SavedModel | None = None) -> list[Trap]:
    """Returns all traps of a SavedModel, worst first.

    Args:
        folder: its folder.
        saved: the content of its file, if that has been read. Defaults to None.

    Raises:
        UserError: it cannot be read.
    """
    graphs = _served_graphs(_read(folder) if saved is None else saved, folder)
    return _worst_first([*_ambiguous(graphs, folder), *graph_traps(graphs[0]), *_files(folder, graphs[0])])


def _read(folder: Path) -> saved_model_pb2.SavedModel:
    file = next(iter(_graph_files(folder)), None)
    if file is None:
        raise UserError(
            f"no SavedModel in {folder}: expected the folder of a version, with saved_model.pb{_versions_in(folder)}"
        )
    try:
        content = file.read_bytes()
        if file.suffix == ".pb":
            return saved_model_pb2.SavedModel.FromString(content)
        return text_format.Parse(content, saved_model_pb2.SavedModel())
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} is corrupt: it is truncated or not a SavedModel ({error})") from error


def _graph_files(folder):
    """Returns the files with a graph in the order in which TensorFlow's Python loader looks for them."""
    return [folder / name for name in ("saved_model.pb", "saved_model.pbtxt") if (folder / name).is_file()]


def _served_graphs(saved, folder):
    """Returns the graphs that match the tag `serve`; tags are a set, and a loader runs the first match."""
    graphs = [graph for graph in saved.meta_graphs if set(graph.meta_info_def.tags) == {"serve"}]
    if not graphs:
        tags = ["+".join(graph.meta_info_def.tags) for graph in saved.meta_graphs]
        raise UserError(
            f"the SavedModel in {folder} has no graph whose only tag is 'serve'. "
            f"Received: {', '.join(tags) or 'no graph'}"
        )
    return graphs


def _ambiguous(graphs: list, folder: Path) -> Iterator[Trap]:
    """Yields traps where one loader could run a graph other than the one that is checked."""
    if len(graphs) > 1:
        yield Trap("unsafe", "the SavedModel", f"it has {len(graphs)} graphs tagged 'serve', and loaders run only one",
                   "export one graph for each set of tags")  # fmt: skip
    files = [path.name for path in [*_graph_files(folder), *folder.glob("saved_model.cpb")]]
    if len(files) > 1:
        yield Trap("unsafe", "the SavedModel", f"loaders choose between {' and '.join(files)}", "keep one of them")


def graph_traps(graph: meta_graph_pb2.MetaGraphDef) -> list[Trap]:
    """Returns the traps of a graph, worst first, without those of the files next to it."""
    return _worst_first([*_operations(graph), *_signatures(graph), *_paths(graph)])


def _worst_first(traps):
    return sorted(dict.fromkeys(traps), key=lambda trap: LEVELS.index(trap.level))


def _versions_in(folder):
    versions = ", ".join(sorted(path.parent.name for path in folder.glob("*/saved_model.pb")))
    return versions and f". Subfolders with a SavedModel: {versions}"


def _operations(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Trap]:
    compiled = {each.signature.name for each in graph.graph_def.library.function if each.attr["_XlaMustCompile"].b}
    functions = {function.signature.name for function in graph.graph_def.library.function}
    sources = Sources(graph)
    for place, steps in operations_by_place(graph).items():
        if place == SAVING:
            continue
        for step in sorted(steps, key=lambda step: step.node.op):
            operation = step.node.op
            rule = rule_of(step.node, functools.partial(sources.constant, step))
            if rule is not None and not _reads_own_file(step, place, steps, graph, sources):
                if place != ELSEWHERE:
                    yield Trap(rule.level, place, f"{operation} {rule.what}", rule.fix)
                elif rule.level == "unsafe":  # a server does not run nodes of the main graph that no signature needs
                    yield Trap("unsafe" if step.function else "warning", place,
                               f"{operation} {rule.what} if it is called", rule.fix)  # fmt: skip
            if operation not in functions and place != ELSEWHERE and op_def_registry.get(operation) is None:
                yield Trap(
                    "error", place, f"{operation} is not an operation of TensorFlow, and servers do not have it",
                    "use TensorFlow operations, or build a server that includes it",
                )  # fmt: skip
        must = any(step.node.attr["_XlaMustCompile"].b or compiled & {*called_by(step.node)} for step in steps)
        if must and place != ELSEWHERE:
            yield Trap("error", place, "a function requires XLA, which TensorFlow Serving's binary does not include",
                       "export a function without jit_compile=True")  # fmt: skip


def _reads_own_file(step, place, steps, graph, sources):
    """Returns True if an operation only reads files of the SavedModel on loading: weights and vocabularies."""
    operation = step.node.op
    if place == LOADING and READS_ASSET.fullmatch(operation):
        return sources.comes_from(step, 1, assets(graph), steps)
    if place == RESTORING and RESTORES.fullmatch(operation):
        return sources.comes_from(step, 0, [graph.saver_def.filename_tensor_name], steps)
    # Models of TensorFlow 1 may have a second saver.
    return place == ELSEWHERE and not step.function and (
        RESTORES.fullmatch(operation) or operation.startswith("SaveV2")
    )  # fmt: skip


def _signatures(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Trap]:
    if "serving_default" not in graph.signature_def:
        available = ", ".join(sorted(graph.signature_def.keys() - {_INIT})) or "none"
        yield Trap("warning", "the signatures", "there is no serving_default, the default signature of requests",
                   f"add a signature of that name; available: {available}")  # fmt: skip
    for name, signature in sorted(graph.signature_def.items()):
        if name == _INIT:
            continue
        place = f"signature {name!r}"
        for key, info in sorted(signature.inputs.items()):
            yield from _tensor(f"input {key} of {place}", key, info, _GENERATED_INPUT)
            yield from _fixed(f"input {key} of {place}", info)
        for key, info in sorted(signature.outputs.items()):
            yield from _tensor(f"output {key} of {place}", key, info, _GENERATED_OUTPUT)


def _tensor(where, key, info, generated):
    if info.WhichOneof("encoding") != "name" or not info.name:
        yield Trap(
            "error", where, "it is ragged or sparse, which requests do not support", "make it dense: .to_tensor()"
        )
        return
    dtype = tf.as_dtype(info.dtype)
    if dtype in _NO_JSON:
        yield Trap("error", where, f"it is {dtype.name}, which the REST API does not support",
                   "use tf.cast(..., tf.float32), or the real and imaginary parts of complex numbers")  # fmt: skip
    if generated.fullmatch(key):
        yield Trap("warning", where, "its name was generated by the export, and may change with the next one",
                   "name it: keras.Input(name=...), tf.TensorSpec(name=...), a dictionary of outputs")  # fmt: skip


def _fixed(where, info):
    sizes = [] if info.tensor_shape.unknown_rank else [each.size for each in info.tensor_shape.dim]
    variable = [(0, "batch axis")] * (len(sizes) > 0) + [(1, "axis 1")] * (len(sizes) == 3)
    for axis, what in variable:
        if sizes[axis] >= 0:
            yield Trap("warning", where, f"its {what} is fixed to {sizes[axis]}",
                       "use None for it in keras.Input or tf.TensorSpec")  # fmt: skip


def _paths(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Trap]:
    bodies = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
    for node in (node for body in bodies for node in body if node.op == "Const"):
        for value in node.attr["value"].tensor.string_val:
            path = Path(value.decode(errors="replace"))
            if path.is_absolute() and _is_local(path):
                yield Trap("warning", f"constant {node.name}", f"it is a path on this machine, {path}",
                           "store the file as an asset (StringLookup, tf.saved_model.Asset)")  # fmt: skip


def _is_local(path):
    """Returns True if a string that looks like a path is a file, or is inside the home folder or the temporary
    folder."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a long string, a null byte, a user without a home
        own = {Path.home(), Path(tempfile.gettempdir())} - {Path("/")}
        return path.is_file() or not own.isdisjoint(path.parents)
    return False


def _files(folder: Path, graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Trap]:
    again = "export it again; copy whole folders under a temporary name, then rename them"
    for asset in asset_files(graph):
        if Path(asset.filename).name != asset.filename:
            yield Trap("unsafe", f"asset {asset.filename}", "it is outside assets/", "export it again")
        elif not (folder / "assets" / asset.filename).is_file():
            yield Trap("error", f"assets/{asset.filename}", "the file is missing", again)
    index = folder / "variables" / "variables.index"
    if index.is_file():
        try:
            reader = tf.train.load_checkpoint(str(index.with_suffix("")))
            shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
            needed = sum(_count(shapes[name]) * max(dtypes[name].size, 0) for name in shapes)
            stored = sum(path.stat().st_size for path in index.parent.glob("variables.data-*"))
            if stored < needed:
                yield Trap("error", "variables/", f"the weights are truncated: {stored} bytes of {needed}", again)
        except (tf.errors.OpError, ValueError, RuntimeError, OSError):
            yield Trap("error", "variables/variables.index", "it is corrupt or truncated", again)
    elif any(node.op in _VARIABLES for node in graph.graph_def.node):
        yield Trap("error", "variables/", "the weights are missing", again)
    if not (folder / WARMUP).is_file():
        yield Trap("warning", str(WARMUP), "there are no warm-up requests, so the first requests will be slow",
                   "export with keras-dl, which writes them")  # fmt: skip


def _count(shape):
    total = 1
    for size in shape:
        total *= size
    return total
