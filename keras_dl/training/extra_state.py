"""State that a model refers to and changes during training, besides its weights: variables, tables and optimizers."""

import collections
import dataclasses
import functools
import types
from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_dl.compat.keras import flat_layers
from keras_dl.errors import UserError
from keras_dl.training.reuse.description import looked_up, trusted

TABLES = (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable)
MOST_OBJECTS = 200_000  # the rest of a larger model is not searched
LONGEST_CONTAINER = 10_000

# Objects of Keras' own classes that may contain a user's objects.
_OPEN = (keras.layers.Layer, keras.metrics.Metric, keras.losses.Loss, keras.optimizers.Optimizer,
         keras.optimizers.schedules.LearningRateSchedule, keras.initializers.Initializer,
         keras.regularizers.Regularizer)  # fmt: skip


@dataclasses.dataclass
class ExtraState:
    """The state that a model refers to, in the order of a depth-first walk.

    Args:
        variables: Keras and TensorFlow variables that are not among the model's weights, metrics and optimizers, such
            as counters of a loss and the states of random generators.
        optimizers: every optimizer of the model, that of `compile` first.
        lost: pairs of a variable or table and the layer or metric that uses it without saving it.
        tables: mutable lookup tables that no layer uses.
    """

    variables: list = dataclasses.field(default_factory=list)
    optimizers: list = dataclasses.field(default_factory=list)
    lost: list = dataclasses.field(default_factory=list)
    tables: list = dataclasses.field(default_factory=list)


def extra_state(model: keras.Model) -> ExtraState:
    """Searches everything that a model refers to: attributes, containers, functions and the names that they use."""
    found, seen = ExtraState(), {}
    known = {id(variable) for variable in (*model.variables, *model.metrics_variables)}
    tracked = {id(layer) for layer in flat_layers(model)}
    loss = getattr(model, "loss", None)  # may be a function, which is not part of the model's layers
    stack = [(loss, None), (model, None), (getattr(model, "optimizer", None), None)]  # the last one is searched first
    while stack and len(seen) < MOST_OBJECTS:
        value, owner = stack.pop()
        if id(value) in seen or isinstance(value, _LEAVES) or (value is loss and owner is model):
            continue
        seen[id(value)] = value
        if isinstance(value, (keras.Variable, tf.Variable, *TABLES)):
            if id(value) not in known:
                _add(found, value, owner)
            continue
        if isinstance(value, keras.random.SeedGenerator | tf.random.Generator):
            if id(value.state) not in known:
                found.variables.append(value.state)
            continue
        if isinstance(value, keras.layers.Layer):
            if owner is None and value is not model:
                continue  # of a loss, such as a fixed network that compares pictures: training does not change it
            owner = value if id(value) in tracked else owner
        elif isinstance(value, keras.metrics.Metric):
            known |= {id(variable) for variable in value.variables}
            owner = value
        elif isinstance(value, keras.losses.Loss):
            owner = None
        elif isinstance(value, keras.optimizers.Optimizer):
            found.optimizers.append(value)
            known |= {id(variable) for variable in value.variables}
            owner = None
        stack += [(child, owner) for child in reversed(_children(value))]
    return found


def check_saved_state(model: keras.Model) -> list:
    """Raises UserError if a layer or metric of a built model uses a variable or table that no saved model contains.

    Returns the mutable tables that the model uses elsewhere, for example in its loss.
    """
    extra = extra_state(model)
    if not extra.lost:
        return extra.tables
    value, owner = extra.lost[0]
    kind = "metric" if isinstance(owner, keras.metrics.Metric) else "model" if owner is model else "layer"
    if isinstance(value, TABLES):
        what, fix = f"a {type(value).__name__}", "use a table that does not change, or save it in save_own_variables"
    elif isinstance(value, keras.Variable):
        what, fix = f"a variable {value.path} that is not among its weights", "use add_weight, or make it an attribute"
    else:
        what, fix = "a tf.Variable", "use add_weight" + (" or add_variable" if kind == "metric" else "")
    raise UserError(f"{kind} {owner.name} has {what}, which no saved model contains: {fix}")


def _add(found, value, owner):
    saves = getattr(type(owner), "save_own_variables", keras.layers.Layer.save_own_variables)
    if owner is not None and saves is keras.layers.Layer.save_own_variables:
        found.lost.append((value, owner))
    elif isinstance(value, TABLES):
        found.tables.append(value)
    else:
        found.variables.append(value)


_LEAVES = (type(None), bool, int, float, complex, str, bytes, tf.Tensor, tf.DType, tf.TensorShape, keras.KerasTensor,
           types.ModuleType, type, types.BuiltinFunctionType)  # fmt: skip


def _children(value):
    if isinstance(value, Mapping):
        return list(value.values()) if len(value) <= LONGEST_CONTAINER else []
    if isinstance(value, list | tuple | set | frozenset | collections.deque):
        return list(value) if len(value) <= LONGEST_CONTAINER else []
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, tf.types.experimental.PolymorphicFunction):
        return [getattr(value, "python_function", None)]
    if trusted(type(value)) and not isinstance(value, _OPEN):
        return []
    classes = [kind for kind in type(value).__mro__ if not trusted(kind)]
    return [*getattr(value, "__dict__", {}).values(), *(part for kind in classes for part in vars(kind).values())]


def _function(function):
    parts = []
    for cell in function.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # empty
            continue
    if not trusted(function):
        names = looked_up(function.__code__)
        parts += [function.__globals__[name] for name in names if name in function.__globals__]
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *parts]
