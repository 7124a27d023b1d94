"""How an answer differs from the one that was expected, in words."""

import numpy as np

from keras_dl.serving.export.padding import same

# A graph is optimized before it runs, and rounds otherwise than the model does.
_RELATIVE, _OF_LARGEST = 1e-3, 1e-4


def differing(before: np.ndarray, after: np.ndarray) -> str | None:
    """Where two answers differ most, if by more than rounding; None if they do not."""
    before, after = np.asarray(before), np.asarray(after)
    if same(before, after, _RELATIVE, _OF_LARGEST):
        return None
    if before.shape != after.shape:
        return f"has the shape {list(after.shape)}, expected {list(before.shape)}"
    numbers = before.dtype.kind in "fc" and after.dtype.kind in "fc"
    wrong = before != after
    if numbers:
        wrong &= ~(np.isnan(before) & np.isnan(after))
        with np.errstate(invalid="ignore"):
            apart = np.nan_to_num(np.abs(after - before), nan=np.inf)
    at = np.unravel_index(np.argmax(np.where(wrong, apart, 0) if numbers else wrong), wrong.shape)
    got, expected = (f"{each[at]:.6g}" if numbers else str(each[at])[:60] for each in (after, before))
    return (
        f"is {got} where it differs most, expected {expected}; {np.count_nonzero(wrong)} of {wrong.size} values differ"
    )
