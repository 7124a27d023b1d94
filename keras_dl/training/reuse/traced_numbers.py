"""Numbers that a traced step reads from variables, so that later trainings may have others without another trace."""

import contextlib
import math
import operator
import random

import numpy as np
import tensorflow as tf

from keras_dl.compat.tensorflow import op_def_registry

# Operations whose state is that of variables, or none. Others, above all the old random numbers of TensorFlow, hold a
# state of their own that nobody can set back.
HARMLESS = {"Assert", "If", "Print", "PrintV2", "StatefulPartitionedCall", "While", "XlaLaunch"}
HARMLESS_KINDS = ("Assign", "CudnnRNN", "ReadVariable", "Resource", "Var")


class HeldNumbers:
    """The present values of some numbers, and what was made of them in the graphs that were traced.

    Args:
        places: list of `(dict, key)`, where the numbers stand.

    Attributes:
        reusable: bool, False once a trace did what another training could not repeat: drew random numbers with a state
            outside of variables.
    """

    def __init__(self, places):
        self._places = places
        self._values = [owner[key] for owner, key in places]
        self._variables, self._decisions = {}, {}
        self.reusable = True

    def fit(self, values: list) -> bool:
        """Whether the traced graphs are those that would be traced with other values.

        They are if every decision that Python took on a number while it traced would be taken again.
        """
        try:
            return all(
                repr(_evaluate(expression, values)) == outcome for expression, outcome in self._decisions.items()
            )
        except ArithmeticError:
            return False

    def assign(self, values: list) -> None:
        """Makes these the present values, of the model's objects and of the graphs."""
        self._values = list(values)
        for (owner, key), value in zip(self._places, values, strict=True):
            owner[key] = value
        for (expression, dtype), variable in self._variables.items():
            variable.assign(_array(self.value(expression), dtype))

    @contextlib.contextmanager
    def tracing(self):
        """While this lasts, `HeldNumber`s stand in the places; everywhere else they are plain numbers."""
        if [owner[key] for owner, key in self._places] != self._values:  # a callback set one, and may not next time
            self.reusable = False
            yield
            return
        for index, (owner, key) in enumerate(self._places):
            owner[key] = HeldNumber(self, ("held", index))
        states = _random_states()
        try:
            yield
        finally:
            for (owner, key), value in zip(self._places, self._values, strict=True):
                owner[key] = value
            graph = tf.compat.v1.get_default_graph()
            self.reusable = self.reusable and states == _random_states() and not _has_state(graph)

    def value(self, expression):
        """The present value of an expression."""
        return _evaluate(expression, self._values)

    def decide(self, expression):
        """The same, when Python needs the number itself: the graph is then right for this outcome only."""
        outcome = self.value(expression)
        self._decisions[expression] = repr(outcome)
        return outcome

    def tensor(self, expression, dtype):
        """The value of an expression in a graph."""
        if (expression, dtype) not in self._variables:
            with tf.init_scope():
                value = _array(self.value(expression), dtype)
                self._variables[expression, dtype] = tf.Variable(value, trainable=False, dtype=dtype)
        return self._variables[expression, dtype].read_value()


class HeldNumber:
    """Stands for a Python number while a step is traced.

    Arithmetic with numbers gives another one, computed in Python's precision as always; in a tensor it is a variable in
    place of a constant. Where Python decides by it (`if rate > 0`) or takes it out (`float`, `math`, NumPy), the
    outcome is noted in `HeldNumbers`. It passes for a number: `isinstance(held, float)`.
    """

    __slots__ = ("_expression", "_held")

    def __init__(self, held, expression):
        self._held, self._expression = held, expression

    @property
    def __class__(self):
        return type(self._held.value(self._expression))

    @property
    def dtype(self):
        """What Keras promotes a Python number by."""
        return type(self._held.value(self._expression))

    def _number(self):
        return self._held.decide(self._expression)

    def __bool__(self):
        return self._held.decide(("truth", self._expression))

    def __hash__(self):
        return hash(self._number())

    def __repr__(self):  # names and messages; Keras writes losses in words while it builds them
        return repr(self._held.value(self._expression))

    def __format__(self, pattern):
        return format(self._held.value(self._expression), pattern)

    def __array__(self, dtype=None, copy=None):
        return np.array(self._number(), dtype)

    def __copy__(self):
        return self._number()

    def __deepcopy__(self, memo):
        return self._number()

    def __getattr__(self, name):
        value = getattr(self._held.value(self._expression), name)  # raises for what numbers do not have
        self._number()
        return value


def _taken(function):
    return lambda self, *arguments: function(self._number(), *arguments)


def _unary(name):
    return lambda self: HeldNumber(self._held, (name, self._expression))


def _binary(name, swapped=False, decides=False):
    def method(self, other):
        if type(other) is HeldNumber:
            other = other._expression
        elif type(other) in (bool, int, float):
            other = ("constant", other, repr(other))  # 1 == 1.0 == True
        else:
            return NotImplemented  # a tensor knows what to do
        expression = (name, other, self._expression) if swapped else (name, self._expression, other)
        return self._held.decide(expression) if decides else HeldNumber(self._held, expression)

    return method


for _name in ("neg", "pos", "abs"):
    setattr(HeldNumber, f"__{_name}__", _unary(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(HeldNumber, f"__{_name}__", _binary(_name))
    setattr(HeldNumber, f"__r{_name}__", _binary(_name, swapped=True))
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(HeldNumber, f"__{_name}__", _binary(_name, decides=True))
for _function in (float, int, round, operator.index, math.trunc, math.floor, math.ceil):
    setattr(HeldNumber, f"__{_function.__name__}__", _taken(_function))


def _tensor(number, dtype=None, name=None, as_ref=False):
    """What TensorFlow makes of a held number: a variable where a Python number would become a constant."""
    value, expression = number._held.value(number._expression), number._expression
    if dtype is None:
        dtype = tf.float32 if isinstance(value, float) else tf.int32
    dtype = tf.as_dtype(dtype).base_dtype
    if not (dtype.is_floating or dtype.is_integer and isinstance(value, int) and -(2**31) <= number < 2**31):
        return tf.constant(number._number(), dtype)  # as it is, or TensorFlow's own error
    return number._held.tensor(expression, dtype)


tf.register_tensor_conversion_function(HeldNumber, _tensor)


def _evaluate(expression, values):
    name, *parts = expression
    if name == "held":
        return values[parts[0]]
    if name == "constant":
        return parts[0]
    return getattr(operator, name)(*(_evaluate(part, values) for part in parts))


def _random_states():
    _, keys, *rest = np.random.get_state()
    return random.getstate(), keys.tobytes(), rest


def _array(value, dtype):
    return np.array(value, dtype.as_numpy_dtype)


def _has_state(graph):
    """Whether a traced graph holds operations with a state of their own, such as old random numbers."""
    definition = graph.as_graph_def()
    functions = (function.node_def for function in definition.library.function)
    names = {node.op for nodes in (definition.node, *functions) for node in nodes}
    known = (op_def_registry.get(name) for name in names)  # None: a function by its name
    stateful = {operation.name for operation in known if operation is not None and operation.is_stateful}
    return any(name not in HARMLESS and not name.startswith(HARMLESS_KINDS) for name in stateful)


class Step:
    """A step of a model, `train_step` and the like, that holds numbers while it is traced.

    Args:
        model: whose step it is; it takes its place.
        name: `"train_step"`, `"test_step"` or `"predict_step"`.
        held: `HeldNumbers`.

    Attributes:
        own: what the model itself had in that place, if it is not that of its class; else None.
        traces: int, how often it was traced.
    """

    def __init__(self, model, name, held):
        self.own = vars(model).get(name)
        self.step, self.held, self.traces = getattr(model, name), held, 0
        setattr(model, name, self)

    def __call__(self, data):
        self.traces += 1
        with self.held.tracing():
            return self.step(data)
