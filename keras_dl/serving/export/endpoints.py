"""Converts a pipeline's signatures for serving: named, dense tensors of dtypes that JSON supports."""

import contextlib
import functools
import inspect
import keyword
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_dl.compat.keras import flat_layers
from keras_dl.errors import UserError, reason_of
from keras_dl.pipeline import Pipeline

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # TensorFlow renames inputs that are not Python parameters
_HALF = (tf.float16, tf.bfloat16)
_COMPLEX = (tf.complex64, tf.complex128)


@dataclass(frozen=True)
class Endpoint:
    """A signature to export.

    Attributes:
        function: takes tensors in the order of `inputs` and returns a dictionary of dense tensors.
        inputs: named `tf.TensorSpec`.
        original: the pipeline's function, which may refer to tables.
    """

    function: Callable
    inputs: tuple[tf.TensorSpec, ...]
    original: Callable

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...] | None]:
        """Shapes of the inputs by name; None for an unknown size or rank."""
        return {spec.name: None if spec.shape.rank is None else tuple(spec.shape) for spec in self.inputs}


def endpoints_of(pipeline: Pipeline, model: keras.Model) -> dict[str, Endpoint]:
    """Returns the endpoints of `pipeline.signatures(model)`.

    `serving_default` comes first, because `ExportArchive` makes the first one the default. Half-precision inputs and
    outputs become float32, because JSON has no half-precision numbers.

    Raises:
        UserError: there is no `serving_default`, a signature is not a pair, or an input's name cannot be exported.
    """
    signatures = pipeline.signatures(model)
    if not isinstance(signatures, dict):
        raise UserError(f"signatures(model) of {pipeline.name} must return a dictionary. Received: {signatures!r:.100}")
    if "serving_default" not in signatures:
        raise UserError(
            f"the signatures of {pipeline.name} must include 'serving_default'. Received: {', '.join(signatures)}"
        )
    names = sorted(signatures, key=lambda name: name != "serving_default")
    return {name: _endpoint(f"signature {name!r} of {pipeline.name}", signatures[name]) for name in names}


def _endpoint(where, pair):
    try:
        function, inputs = pair
        names = [spec.name for spec in inputs]
    except (TypeError, ValueError, AttributeError):
        function, names = None, []
    if not callable(function):
        raise UserError(f"{where} must be a pair of a function and a list of tf.TensorSpec. Received: {pair!r:.100}")
    lower = [str(name).lower() for name in names]  # names in the graph ignore case
    for name in names:
        if not name or not _INPUT.fullmatch(name) or _is_reserved(name) or lower.count(name.lower()) > 1:
            raise UserError(
                f"{where}: each input needs a unique name, such as tf.TensorSpec(..., name='signal'): a letter, then "
                "letters, digits and _; not a Python keyword; unique even if case is ignored. "
                f"Received: {', '.join(map(str, names))}"
            )
    dtypes = [tf.as_dtype(spec.dtype) for spec in inputs]
    served = [tf.float32 if dtype in _HALF else dtype for dtype in dtypes]

    @functools.wraps(function, assigned=("__name__",), updated=())
    def answer(*tensors):
        tensors = [tf.cast(tensor, dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
        try:
            outputs = function(*tensors)
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
            if tf.executing_eagerly():
                raise
            raise UserError(
                f"{where} cannot be traced: {reason_of(error)}. It is traced without autograph: use tf.while_loop and "
                "tf.cond for loops and conditions on tensors"
            ) from error
        if not isinstance(outputs, dict) or not outputs:
            raise UserError(f"{where} must return a dictionary of named tensors. Received: {type(outputs).__name__}")
        return {name: _output(where, name, tensor) for name, tensor in outputs.items()}

    specs = (tf.TensorSpec(spec.shape, dtype, name=spec.name) for spec, dtype in zip(inputs, served, strict=True))
    return Endpoint(answer, tuple(specs), function)


def _is_reserved(name):
    return keyword.iskeyword(name) or name == "self"


def _output(where, name, tensor):
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(f"{where}: output names consist of letters, digits, _ . and -. Received: {name!r}")
    if isinstance(tensor, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
        raise UserError(
            f"{where}: output {name} is a {type(tensor).__name__}: make it dense, for example with .to_tensor()"
        )
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype in _COMPLEX:
        raise UserError(
            f"{where}: output {name} is {tensor.dtype.name}, which JSON cannot represent: return its real "
            "and imaginary parts"
        )
    return tf.cast(tensor, tf.float32) if tensor.dtype in _HALF else tensor


def write_archive(model: keras.Model, endpoints: dict[str, Endpoint], folder: str) -> None:
    """Traces the endpoints and writes them as a SavedModel.

    It includes the tables that are attributes of the model, or that a signature's function refers to in its closure or
    as a global. UserError is raised if an endpoint cannot be traced, or uses a table or variable that is not included.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    holder = tf.Module()
    holder.found = [each for endpoint in endpoints.values() for each in _referenced(endpoint.original, {id(model)})]
    archive.track(holder)
    try:
        for name, endpoint in endpoints.items():
            archive.add_endpoint(name, endpoint.function, list(endpoint.inputs))
        with _without_cudnn(model):
            archive.write_out(folder, verbose=False)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the signatures cannot be exported: {reason_of(error)}") from error
    except AssertionError as error:
        if "untracked" not in str(error):
            raise
        raise UserError(
            "a signature uses a table or a variable that is not part of the export: assign it to the model in "
            "build(hp) (model.table = table), or refer to it in the signature's function"
        ) from error


@contextlib.contextmanager
def _without_cudnn(model):
    """Makes layers that would choose cuDNN's kernel, which requires a GPU, use the portable one."""
    layers = [each for each in flat_layers(model) if getattr(each, "use_cudnn", False)]
    chosen = [layer.use_cudnn for layer in layers]
    for layer in layers:
        layer.use_cudnn = False
    try:
        yield
    finally:
        for layer, use in zip(layers, chosen, strict=True):
            layer.use_cudnn = use


def _referenced(value, seen) -> Iterator[tf.__internal__.tracking.Trackable]:
    """Yields the trackable objects that a function refers to, directly or through functions and containers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif inspect.ismethod(value):
        parts = [value.__func__, value.__self__]
    elif inspect.isfunction(value):
        parts = _parts_of_function(value)
    elif isinstance(value, Pipeline):
        parts = vars(value).values()
    elif type(value) in (list, tuple, set):
        parts = value
    elif type(value) is dict:
        parts = value.values()
    else:
        if isinstance(value, tf.__internal__.tracking.Trackable):
            yield value
        return
    for part in parts:
        yield from _referenced(part, seen)


def _parts_of_function(function):
    cells = [cell.cell_contents for cell in function.__closure__ or () if not _is_empty(cell)]
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    # Functions of other modules, such as TensorFlow's, are not searched.
    local = [each for each in named if not inspect.isfunction(each) or each.__module__ == function.__module__]
    return [*cells, *local, *(function.__defaults__ or ())]


def _is_empty(cell):
    try:
        return cell.cell_contents is None
    except ValueError:  # the name has no value yet
        return True
