"""Describes a compiled model leaf by leaf, so that two models can be compared."""

import collections
import enum
import functools
import pathlib
import re
import sys
import types
import weakref

import keras
import numpy as np
import tensorflow as tf

from keras_dl.compat.keras import CompileLoss, CompileMetrics, global_seed_generator, to_snake_case
from keras_dl.training.reuse.traced_numbers import Step

MOST_TOKENS = 200_000  # larger models are not worth comparing
LARGEST_ARRAY = 1 << 24  # bytes; larger arrays are not worth comparing
HEAP_TYPE = 1 << 9  # the Py_TPFLAGS_HEAPTYPE flag of classes written in Python

# Packages whose classes and functions do not change. Those of other packages are described with every name that they
# look up, since a pipeline may change them between models.
TRUSTED = {"keras", "keras_dl", "keras_tuner", "numpy", "tensorflow"} | sys.stdlib_module_names

# Attributes that Keras sets when a model is connected, compiled or trained, without effect on its graph.
BOOKKEEPING = (
    (keras.Model, {"_eval_epoch_iterator", "_initial_epoch", "_loss_tracker", "_nodes", "history"}),
    (keras.Model, {"predict_function", "stop_evaluating", "stop_training", "test_function", "train_function"}),
    (keras.Operation, {"_inbound_nodes"}),
    (keras.Layer, {"_called", "_dropout_mask", "_lock", "_parent_path", "_path", "_recurrent_dropout_mask"}),
    (keras.Layer, {"_obj_reference_counts_dict", "_tracked", "_tracker"}),
    (keras.metrics.Metric, {"_built", "_tracker", "built"}),
    (keras.optimizers.Optimizer, {"_exclude_from_weight_decay_cache", "_lock", "_obj_reference_counts_dict"}),
    (keras.optimizers.Optimizer, {"_tracked", "_tracker", "_trainable_variables_indices"}),
)
DECLARED = {"_auto_config", "_compile_config"}  # the arguments of an object, for `get_config`
PATCHED = {"train_step", "test_step", "predict_step"}

VALUES = (str, bytes, bool, int, float, complex, type(None), type(...), type(NotImplemented))
BY_REPR = (np.dtype, np.generic, tf.DType, tf.TensorShape, re.Pattern, enum.Enum, range, slice, pathlib.PurePath)
BY_IDENTITY = (
    *(types.ModuleType, types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, np.ufunc),
)


class Unknown(Exception):
    """Raised for a part of a model that cannot be compared."""


class Same:
    """Compares objects by identity."""

    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Same) and self.value is other.value


class Description:
    """A model as a flat list of tokens; models with equal lists differ only in variables and some numbers.

    Args:
        model: built and compiled, its optimizer built too.
        may_differ: function `(object, name)` that returns whether models may differ in this number of an object.

    Attributes:
        tokens: list, in the order of a depth-first walk over everything that the model refers to.
        variables: list of Keras and TensorFlow variables, in the same order; their values are not among the tokens.
        places, declared: lists of `(dict, key)`, the places of the numbers that may differ, and of the objects' own
            configurations, in the same order.

    Raises:
        Unknown: for an object that cannot be compared.
    """

    def __init__(self, model, may_differ):
        self.tokens, self.variables, self.places, self.declared = [], [], [], []
        self._may_differ = may_differ
        self._seen, self._alive = {}, []
        keras_state = [keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()]
        self._stack = [Same(global_seed_generator()), *keras_state, model]
        while self._stack:
            self._describe(self._stack.pop())
            if len(self.tokens) > MOST_TOKENS:
                raise Unknown("too many tokens")
        del self._seen, self._alive

    def values(self) -> list:
        """Returns the numbers that may differ, in order."""
        return [owner[key] for owner, key in self.places]

    def _push(self, *token, children=()):
        self.tokens.append(token)
        self._stack.extend(reversed(children))

    def _describe(self, value):
        kind = type(value)
        if kind in VALUES:  # by repr: 0.0 and -0.0, and 1 and True, differ
            return self._push(kind, repr(value))
        if kind is Same:
            return self._push(value)
        if id(value) in self._seen:
            return self._push("seen", self._seen[id(value)])
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # keeps its id in use
        if isinstance(value, keras.Variable):
            self.variables.append(value)
            traits = (value.shape, value.dtype, value.trainable, value.aggregation, value.synchronization)
            return self._push(kind, *map(str, traits), children=[value.regularizer, value.constraint])
        if isinstance(value, tf.Variable):
            self.variables.append(value)
            return self._push(kind, str(value.shape), str(value.dtype), value.trainable)
        if isinstance(value, tf.Tensor | np.ndarray):
            return self._push(kind, *_array(value))
        if isinstance(value, BY_REPR):
            return self._push(kind, repr(value))
        if isinstance(value, BY_IDENTITY):
            return self._push(Same(value), children=[getattr(value, "__self__", None)])
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        parts = _parts(value)
        if parts is not None and (trusted(kind) or not getattr(value, "__dict__", None)):
            return self._push(kind, len(parts), children=parts)
        return self._object(value)

    def _object(self, value):
        kind = type(value)
        slots = [name for base in kind.__mro__ for name in _names(vars(base).get("__slots__", ())) if name[:2] != "__"]
        if not hasattr(value, "__dict__") and not hasattr(kind, "__slots__") or _is_opaque(kind, len(slots)):
            raise Unknown(f"a {kind.__module__}.{kind.__name__}")
        state = getattr(value, "__dict__", {})
        children = [kind, *(part for name in slots if hasattr(value, name) for part in (name, getattr(value, name)))]
        skipped = {name for base, names in BOOKKEEPING if isinstance(value, base) for name in names}
        if isinstance(value, CompileLoss | CompileMetrics):  # the first step creates the rest from these
            skipped = {name for name in state if not name.startswith("_user")}
        if len(state.get("output_names") or ()) == 1:  # several are also part of the names of metrics
            skipped |= {"output_names"}
        for name, part in state.items():
            if name in skipped or name.startswith("_self_"):
                continue
            if name in DECLARED:
                self.declared.append((state, name))
            elif name in PATCHED and type(part) is Step:
                children += [] if part.own is None else [name, part.own]
            elif name == "name" and _is_automatic(part, value) and not isinstance(value, keras.metrics.Metric):
                children += [name, None]
            elif name == "_fn_kwargs" and type(part) is dict:  # of losses and metrics that wrap a function
                children += [name, *(child for key in part for child in self._leaf(value, part, key))]
            else:
                children += self._leaf(value, state, name)
        self._push("object", len(children), children=children)

    def _leaf(self, owner, state, name):
        part = state[name]
        if type(part) in (int, float) and self._may_differ(owner, name):
            self.places.append((state, name))
            return [name, type(part)]
        return [name, part]

    def _class(self, kind):
        if trusted(kind):
            return self._push(Same(kind))
        skipped = ("__dict__", "__weakref__", "__doc__", "_abc_impl")
        parts = [part for name, value in vars(kind).items() if name not in skipped for part in (name, value)]
        return self._push(Same(kind), len(parts), children=[*kind.__bases__, *parts])

    def _function(self, function):
        children = [function.__defaults__, function.__kwdefaults__, vars(function), *(function.__closure__ or ())]
        if not trusted(function):
            names = looked_up(function.__code__)
            scopes = [function.__globals__]
            for name in names:  # `module.name` is looked up in a module
                module = function.__globals__.get(name)
                if isinstance(module, types.ModuleType) and not trusted(module):
                    scopes.append(vars(module))
            children += [part for scope in scopes for name in names if name in scope for part in (name, scope[name])]
        self._push(function.__code__, len(children), children=children)


def trusted(value) -> bool:
    """Returns whether a class, function or module is from a package that does not change while the program runs."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__ or ""
    return name.partition(".")[0] in TRUSTED


def _parts(value):
    """Returns the parts of a container, in order; None if the value is not a container."""
    if isinstance(value, list | tuple | collections.deque):
        return list(value)
    if isinstance(value, dict | types.MappingProxyType):
        return [part for item in value.items() for part in item]
    if isinstance(value, set | frozenset):
        if not all(isinstance(part, VALUES) for part in value):
            raise Unknown("a set of objects has no order")
        return sorted(value, key=repr)
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, weakref.ref):
        return [value()]
    if isinstance(value, types.CellType):
        try:
            return [value.cell_contents]
        except ValueError:  # empty
            return []
    return None


def _array(value):
    if isinstance(value, tf.Tensor):
        if not hasattr(value, "numpy") or value.dtype in (tf.resource, tf.variant):
            raise Unknown("a tensor without a value")
        value = np.asarray(value.numpy())
    if value.nbytes > LARGEST_ARRAY:
        raise Unknown("a large array")
    return value.dtype.str, value.shape, repr(value.tolist()) if value.dtype == object else value.tobytes()


def _is_opaque(kind, slots):
    """Returns whether objects of a class have a hidden state in C, like `random.Random`."""
    shown = object.__basicsize__ + 8 * (slots + 2)  # `__dict__` and `__weakref__` at most
    return kind.__basicsize__ > shown or any(not base.__flags__ & HEAP_TYPE for base in kind.__mro__[:-1])


def _names(slots):
    return (slots,) if isinstance(slots, str) else tuple(slots)


def looked_up(code):
    """Returns the names that a function and its inner functions look up."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for other in inner for name in looked_up(other))]


def _stem(value):
    return to_snake_case(type(value).__name__)


def _is_automatic(name, value):
    """Returns whether Keras generated an object's name from its class and a counter."""
    return isinstance(name, str) and re.fullmatch(rf"(\w+_)?{re.escape(_stem(value))}(_\d+)?", name) is not None
