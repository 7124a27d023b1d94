"""Checks of arguments and shapes that several layers share."""

import numbers


def is_integer(value):
    """Returns whether a value is an integer; a bool is not.

    Args:
        value: any object.

    Example:

    >>> is_integer(3), is_integer(3.0), is_integer(True)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_count(name, value, least=1):
    """Returns an argument as an int, or raises an error if it is not an integer or too small.

    Args:
        name: str, name of the argument.
        value: its value.
        least: int, smallest valid value. Defaults to 1.

    Raises:
        ValueError: if the value is not an integer of at least `least`.

    Example:

    >>> require_count("num_heads", True)
    Traceback (most recent call last):
    ...
    ValueError: `num_heads` must be an integer of at least 1. Received: True
    """
    if not is_integer(value) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {value!r}")
    return int(value)


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
