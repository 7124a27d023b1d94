"""Checks of arguments and shapes that several functions and layers share."""

import numbers
import operator


def is_integer(value):
    """Returns whether a value is an integer; a bool is not.

    Args:
        value: any object.

    Example:

    >>> is_integer(3), is_integer(3.0), is_integer(True)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_count(name, value, least=1, most=None):
    """Returns an argument as an int, or raises an error if it is not an integer in the valid range.

    NumPy integers are accepted, but a bool is not.

    Args:
        name: str, name of the argument.
        value: its value.
        least: int, smallest valid value. Defaults to 1.
        most: int, largest valid value, or None (default) for no limit.

    Raises:
        ValueError: if the value is not an integer, is below `least` or above `most`.

    Example:

    >>> require_count("num_heads", True)
    Traceback (most recent call last):
    ...
    ValueError: `num_heads` must be an integer of at least 1. Received: True
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"`{name}` must be an integer {limits}. Received: {value!r}")
    return number


def require_rate(name, value):
    """Returns a dropout rate as a float, or raises an error if it is not a number in [0, 1).

    Args:
        name: str, name of the argument.
        value: its value.

    Raises:
        ValueError: if the value is not a number of at least 0 and below 1.

    Example:

    >>> require_rate("dropout", "x")
    Traceback (most recent call last):
    ...
    ValueError: `dropout` must be a number of at least 0 and below 1. Received: 'x'
    """
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number of at least 0 and below 1. Received: {value!r}")
    return float(value)


def require_rank(name, shape, axes):
    """Raises an error if a tensor does not have the expected number of axes.

    Args:
        name: str, name of the tensor.
        shape: its shape, or None if there is no such tensor.
        axes: str, the expected axes, such as `"[B, T, features]"`.

    Raises:
        ValueError: if the number of axes differs.

    Example:

    >>> require_rank("mask", (2, 5, 1), "[B, T]")
    Traceback (most recent call last):
    ...
    ValueError: Expected `mask` of shape [B, T]. Received: (2, 5, 1)
    """
    if shape is not None and len(shape) != axes.count(",") + 1:
        raise ValueError(f"Expected `{name}` of shape {axes}. Received: {tuple(shape)}")


def agree(shape, other):
    """Returns whether two shapes are equal in every dimension that is known in both.

    Args:
        shape, other: sequences of int, or None for an unknown dimension.

    Returns:
        bool.

    Example:

    >>> agree((2, None), (2, 5)), agree((2, 1), (2, 5))
    (True, False)
    """
    pairs = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def require_shape(name, shape, *expected):
    """Raises an error if the shape of a tensor is none of the expected ones; unknown dimensions are not checked.

    A tensor of size 1 in place of another size would be broadcast, without an error and with a wrong result.

    Args:
        name: str, name of the tensor.
        shape: its shape.
        *expected: shapes.

    Raises:
        ValueError: if the shape differs from all of them.

    Example:

    >>> require_shape("sample_weight", (2, 5), (2,), (2, 1))
    Traceback (most recent call last):
    ...
    ValueError: Expected `sample_weight` of shape (2,) or (2, 1). Received: (2, 5)
    """
    if not any(agree(shape, each) for each in expected):
        known = " or ".join(str(tuple(each)) for each in expected)
        raise ValueError(f"Expected `{name}` of shape {known}. Received: {tuple(shape)}")


def require_weights(shape, of):
    """Raises an error if sample weights are neither a scalar, one per row, nor one per element of a loss.

    Args:
        shape: shape of the weights.
        of: shape of the losses, `[B]` or `[B, T]`. `[B, 1]` also is one weight per row.

    Raises:
        ValueError: if the weights have a different shape.

    Example:

    >>> require_weights((2, 5), of=(2,))
    Traceback (most recent call last):
    ...
    ValueError: Expected `sample_weight` of shape () or (2,) or (2, 1). Received: (2, 5)
    """
    rows = tuple(of[:1])
    require_shape("sample_weight", shape, *dict.fromkeys([(), rows, (*rows, 1), tuple(of)]))


def require_steps(y_true, y_pred):
    """Raises an error unless there is a label for each step of the predictions.

    Args:
        y_true: shape of the labels, `[B, T]`.
        y_pred: shape of the predictions, `[B, T, V]`.

    Raises:
        ValueError: if a rank or a size differs.

    Example:

    >>> require_steps((1, 5), (2, 5, 4))
    Traceback (most recent call last):
    ...
    ValueError: Expected y_true [B, T], y_pred [B, T, V]. Received: (1, 5), (2, 5, 4)
    """
    if len(y_pred) != 3 or not agree(y_true, y_pred[:2]):
        raise ValueError(f"Expected y_true [B, T], y_pred [B, T, V]. Received: {tuple(y_true)}, {tuple(y_pred)}")


def limited(name, value, least, most, rows=1, most_in_all=None):
    """Returns an int tensor whose values are checked before anything that is computed from the result.

    Use it for inputs of a served signature that determine how much memory or time a request takes.
    `tf.debugging.assert_*` alone does not suffice: in a graph, other operations do not wait for it.

    Args:
        name: str, name of the input.
        value: int tensor of any shape.
        least: int, smallest valid value.
        most: int, largest valid value.
        rows: int, or int tensor `[]`: the number of rows of the request. Defaults to 1.
        most_in_all: int, largest valid value times `rows`. Defaults to None: not limited.

    Raises:
        tf.errors.InvalidArgumentError: if a value is out of range; in a graph, when the graph runs.

    Example:

    >>> import tensorflow as tf
    >>> int(limited("steps", tf.constant(20), 1, 100_000))
    20
    """
    import tensorflow as tf

    message = f"{name} must be from {least} to {most}"
    checks = [
        tf.debugging.assert_greater_equal(value, least, message),
        tf.debugging.assert_less_equal(value, most, message),
    ]
    if most_in_all is not None:
        product = tf.cast(value, tf.int64) * tf.cast(rows, tf.int64)
        message = f"{name} times the number of rows must be at most {most_in_all}"
        checks.append(tf.debugging.assert_less_equal(product, tf.constant(most_in_all, tf.int64), message))
    with tf.control_dependencies(checks):
        return tf.identity(value)


def checked_labels(vocabulary, blank_index):
    """Returns the labels of a CTC vocabulary as a list.

    Args:
        vocabulary: sequence of str, the labels in order, or an int n for `"0"` to `"n - 1"`.
        blank_index: int, the class of the blank.

    Raises:
        ValueError: if the blank is not one of the `len(vocabulary) + 1` classes.

    Example:

    >>> checked_labels(3, blank_index=0)
    ['0', '1', '2']
    """
    labels = map(str, range(vocabulary)) if isinstance(vocabulary, numbers.Integral) else vocabulary
    labels = list(labels)
    if not 0 <= blank_index <= len(labels):
        raise ValueError(f"`blank_index` must be from 0 to {len(labels)}. Received: {blank_index}")
    return labels
