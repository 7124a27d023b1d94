"""Ids with the same meaning in every text vocabulary; the entries of a vocabulary follow them."""

PADDING, UNKNOWN, START, END = range(4)
FIRST = 4


def is_symbol(ids):
    """Returns which ids refer to an entry of a vocabulary.

    Args:
        ids: int tensor of any shape.

    Returns:
        bool tensor of the same shape: False for padding, unknown, start and end, and for negative ids.

    Example:

    >>> import numpy as np
    >>> is_symbol(np.array([START, 4, 5, UNKNOWN, END, PADDING, -1])).tolist()
    [False, True, True, False, False, False, False]
    """
    return ids >= FIRST
