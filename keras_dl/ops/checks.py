"""Checks of arguments that several functions share."""

import numbers
import operator


def checked_int(name, value, least, most=None):
    """Returns an argument as an int; NumPy integers are accepted.

    Args:
        name: str, name of the argument.
        value: its value.
        least: int, smallest valid value.
        most: int, largest valid value, or None (default) for no limit.

    Raises:
        ValueError: if the value is not an integer, is below `least` or above `most`.

    Example:

    >>> checked_int("beam_width", 2.5, 1)
    Traceback (most recent call last):
        ...
    ValueError: `beam_width` must be an integer of at least 1. Received: 2.5
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"`{name}` must be an integer {limits}. Received: {value!r}")
    return number


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
