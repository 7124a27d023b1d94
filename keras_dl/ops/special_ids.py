"""The ids that mean the same in every vocabulary of text; what a vocabulary holds comes after them."""

PADDING, UNKNOWN, START, END = range(4)
FIRST = 4


def is_symbol(ids):
    """Which ids stand for an entry of a vocabulary.

    Args:
        ids: int tensor of any shape.

    Returns:
        bool tensor of that shape: False for padding, unknown, start and end, and for negative numbers.

    Example:

    >>> import numpy as np
    >>> is_symbol(np.array([START, 4, 5, UNKNOWN, END, PADDING, -1])).tolist()
    [False, True, True, False, False, False, False]
    """
    return ids >= FIRST
