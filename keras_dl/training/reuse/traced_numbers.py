"""Numbers that a traced step reads from variables, so that later training runs can change them without retracing."""

import contextlib
import math
import operator
import random

import numpy as np
import tensorflow as tf

from keras_dl.compat.tensorflow import op_def_registry

# Operations without state, or whose state is in variables. Others, in particular TensorFlow's legacy random operations,
# have an internal state that cannot be reset.
HARMLESS = {"Assert", "If", "Print", "PrintV2", "StatefulPartitionedCall", "While", "XlaLaunch"}
HARMLESS_KINDS = ("Assign", "CudnnRNN", "ReadVariable", "Resource", "Var")


class TracedNumbers:
    """The current values of some numbers of a model, stored at `(dict, key)`, and how its traced graphs depend on them.

    `reusable` becomes False once a trace has done something that another training run cannot repeat, such as drawing
    random numbers from a state outside of variables.
    """

    def __init__(self, places):
        self._places = places
        self._values = [owner[key] for owner, key in places]
        self._variables, self._decisions = {}, {}
        self.reusable = True

    def fit(self, values: list) -> bool:
        """Returns whether tracing with these values would give the same graphs.

        This is the case if every Python decision that depended on a number during tracing has the same outcome.
        """
        try:
            return all(
                repr(_evaluate(expression, values)) == outcome for expression, outcome in self._decisions.items()
            )
        except ArithmeticError:
            return False

    def assign(self, values: list) -> None:
        """Sets the values in the objects of the model and in the graphs."""
        self._values = list(values)
        for (owner, key), value in zip(self._places, values, strict=True):
            owner[key] = value
        for (expression, dtype), variable in self._variables.items():
            variable.assign(_array(self.value(expression), dtype))

    @contextlib.contextmanager
    def tracing(self):
        """A context in which the places contain `TracedNumber`s instead of plain numbers."""
        if [owner[key] for owner, key in self._places] != self._values:  # changed by a callback
            self.reusable = False
            yield
            return
        for index, (owner, key) in enumerate(self._places):
            owner[key] = TracedNumber(self, ("place", index))
        states = _random_states()
        try:
            yield
        finally:
            for (owner, key), value in zip(self._places, self._values, strict=True):
                owner[key] = value
            graph = tf.compat.v1.get_default_graph()
            self.reusable = self.reusable and states == _random_states() and not _has_state(graph)

    def value(self, expression):
        """Returns the current value of an expression."""
        return _evaluate(expression, self._values)

    def decide(self, expression):
        """Returns the current value for Python code, which makes the graph valid only for this outcome."""
        outcome = self.value(expression)
        self._decisions[expression] = repr(outcome)
        return outcome

    def tensor(self, expression, dtype):
        """Returns the value of an expression as a tensor of the graph."""
        if (expression, dtype) not in self._variables:
            with tf.init_scope():
                value = _array(self.value(expression), dtype)
                self._variables[expression, dtype] = tf.Variable(value, trainable=False, dtype=dtype)
        return self._variables[expression, dtype].read_value()


class TracedNumber:
    """Replaces a Python number while a step is traced.

    Arithmetic with numbers returns another `TracedNumber`, computed in Python's precision; its tensor is a variable
    instead of a constant. Where Python branches on it (`if rate > 0`) or converts it (`float`, `math`, NumPy), the
    outcome is recorded in `TracedNumbers`. It is an instance of the type of its number: `isinstance(number, float)`.
    """

    __slots__ = ("_expression", "_numbers")

    def __init__(self, numbers, expression):
        self._numbers, self._expression = numbers, expression

    @property
    def __class__(self):
        return type(self._numbers.value(self._expression))

    @property
    def dtype(self):
        """The type by which Keras promotes a Python number."""
        return type(self._numbers.value(self._expression))

    def _number(self):
        return self._numbers.decide(self._expression)

    def __bool__(self):
        return self._numbers.decide(("truth", self._expression))

    def __hash__(self):
        return hash(self._number())

    def __repr__(self):  # for names and messages: Keras formats losses while it builds them
        return repr(self._numbers.value(self._expression))

    def __format__(self, pattern):
        return format(self._numbers.value(self._expression), pattern)

    def __array__(self, dtype=None, copy=None):
        return np.array(self._number(), dtype)

    def __copy__(self):
        return self._number()

    def __deepcopy__(self, memo):
        return self._number()

    def __getattr__(self, name):
        value = getattr(self._numbers.value(self._expression), name)  # may raise AttributeError
        self._number()
        return value


def _converting(function):
    return lambda self, *arguments: function(self._number(), *arguments)


def _unary(name):
    return lambda self: TracedNumber(self._numbers, (name, self._expression))


def _binary(name, swapped=False, decides=False):
    def method(self, other):
        if type(other) is TracedNumber:
            other = other._expression
        elif type(other) in (bool, int, float):
            other = ("constant", other, repr(other))  # 1 == 1.0 == True
        else:
            return NotImplemented  # tensors implement the operation
        expression = (name, other, self._expression) if swapped else (name, self._expression, other)
        return self._numbers.decide(expression) if decides else TracedNumber(self._numbers, expression)

    return method


for _name in ("neg", "pos", "abs"):
    setattr(TracedNumber, f"__{_name}__", _unary(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(TracedNumber, f"__{_name}__", _binary(_name))
    setattr(TracedNumber, f"__r{_name}__", _binary(_name, swapped=True))
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(TracedNumber, f"__{_name}__", _binary(_name, decides=True))
for _function in (float, int, round, operator.index, math.trunc, math.floor, math.ceil):
    setattr(TracedNumber, f"__{_function.__name__}__", _converting(_function))


def _tensor(number, dtype=None, name=None, as_ref=False):
    """Converts a traced number to a tensor: a variable where a Python number would become a constant."""
    value, expression = number._numbers.value(number._expression), number._expression
    if dtype is None:
        dtype = tf.float32 if isinstance(value, float) else tf.int32
    dtype = tf.as_dtype(dtype).base_dtype
    if not (dtype.is_floating or dtype.is_integer and isinstance(value, int) and -(2**31) <= number < 2**31):
        return tf.constant(number._number(), dtype)  # a constant, or TensorFlow's own error
    return number._numbers.tensor(expression, dtype)


tf.register_tensor_conversion_function(TracedNumber, _tensor)


def _evaluate(expression, values):
    name, *parts = expression
    if name == "place":
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
    """Returns whether a graph contains operations with an internal state, such as legacy random operations."""
    definition = graph.as_graph_def()
    functions = (function.node_def for function in definition.library.function)
    names = {node.op for nodes in (definition.node, *functions) for node in nodes}
    known = (op_def_registry.get(name) for name in names)  # None: the name of a function
    stateful = {operation.name for operation in known if operation is not None and operation.is_stateful}
    return any(name not in HARMLESS and not name.startswith(HARMLESS_KINDS) for name in stateful)


class Step:
    """A step of a model, such as `train_step`, that it replaces; it is traced with `TracedNumber`s.

    Attributes:
        own: the step in the model's instance dictionary, if it had one; None if the step is that of its class.
        traces: how often the step was traced.
    """

    def __init__(self, model, name, numbers):
        self.own = vars(model).get(name)
        self.step, self.numbers, self.traces = getattr(model, name), numbers, 0
        setattr(model, name, self)

    def __call__(self, data):
        self.traces += 1
        with self.numbers.tracing():
            return self.step(data)
