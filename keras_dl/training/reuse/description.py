"""What a compiled model is made of, leaf by leaf, so that two of them can be compared."""

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

MOST_TOKENS = 200_000  # a model of more is not worth comparing
LARGEST_ARRAY = 1 << 24  # bytes, likewise
HEAP_TYPE = 1 << 9  # a flag of all classes that are written in Python

# Packages whose classes and functions are as they are. Those of all others are described too, with what they look up:
# a pipeline may change them from one model to the next.
TRUSTED = {"keras", "keras_dl", "keras_tuner", "numpy", "tensorflow"} | sys.stdlib_module_names

# Written by Keras when a model is connected, compiled or trained, and of no meaning for its graph.
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
DECLARED = {"_auto_config", "_compile_config"}  # what an object was made with, for `get_config`
PATCHED = {"train_step", "test_step", "predict_step"}

VALUES = (str, bytes, bool, int, float, complex, type(None), type(...), type(NotImplemented))
BY_REPR = (np.dtype, np.generic, tf.DType, tf.TensorShape, re.Pattern, enum.Enum, range, slice, pathlib.PurePath)
BY_IDENTITY = (
    *(types.ModuleType, types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, np.ufunc),
)


class Unknown(Exception):
    """Something in a model cannot be compared."""


class Same:
    """Equal to another one of the same object."""

    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Same) and self.value is other.value


class Description:
    """A model as a flat list of tokens: two with equal lists differ in nothing but variables and some numbers.

    Args:
        model: built and compiled, its optimizer built too.
        may_differ: function `(object, name)` -> whether models may differ in that number of an object.

    Attributes:
        tokens: list, in the order of a walk over all that the model refers to.
        variables: list of Keras and TensorFlow variables, in that order; their values are no tokens.
        places: list of `(dict, key)`, where the numbers stand that may differ, in that order.
        declared: list of `(dict, key)`, where the configurations stand that objects were made with, in that order.

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
                raise Unknown("too much")
        del self._seen, self._alive

    def values(self) -> list:
        """The numbers that may differ, in their order."""
        return [owner[key] for owner, key in self.places]

    def _push(self, *token, children=()):
        self.tokens.append(token)
        self._stack.extend(reversed(children))

    def _describe(self, value):
        kind = type(value)
        if kind in VALUES:  # by their repr, for 0.0 and -0.0, 1 and True are not the same
            return self._push(kind, repr(value))
        if kind is Same:
            return self._push(value)
        if id(value) in self._seen:
            return self._push("seen", self._seen[id(value)])
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # lest another gets its id
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
        if isinstance(value, CompileLoss | CompileMetrics):  # the rest is made of these in the first step
            skipped = {name for name in state if not name.startswith("_user")}
        if len(state.get("output_names") or ()) == 1:  # those of several are also the names of their metrics
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
            elif name == "_fn_kwargs" and type(part) is dict:  # of losses and metrics of a function
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
            names = _looked_up(function.__code__)
            scopes = [function.__globals__]
            for name in names:  # `module.name` is looked up in a module
                module = function.__globals__.get(name)
                if isinstance(module, types.ModuleType) and not trusted(module):
                    scopes.append(vars(module))
            children += [part for scope in scopes for name in names if name in scope for part in (name, scope[name])]
        self._push(function.__code__, len(children), children=children)


def trusted(value) -> bool:
    """Whether a class, function or module is of a package that does not change while the program runs."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__ or ""
    return name.partition(".")[0] in TRUSTED


def _parts(value):
    """The parts of a container, in order; None if it is none."""
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
    """Whether objects of a class have a state in C, as `random.Random` has, which nothing shows."""
    shown = object.__basicsize__ + 8 * (slots + 2)  # `__dict__` and `__weakref__` at most
    return kind.__basicsize__ > shown or any(not base.__flags__ & HEAP_TYPE for base in kind.__mro__[:-1])


def _names(slots):
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _looked_up(code):
    """The names that a function looks up, and those of the functions within it."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for other in inner for name in _looked_up(other))]


def _stem(value):
    return to_snake_case(type(value).__name__)


def _is_automatic(name, value):
    """Whether Keras made up an object's name: it counts those of its class."""
    return isinstance(name, str) and re.fullmatch(rf"(\w+_)?{re.escape(_stem(value))}(_\d+)?", name) is not None
