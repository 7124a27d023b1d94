"""How an answer differs from the one that was expected."""

import numpy as np
import pytest

from keras_dl.serving.export.differing import differing


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.5, 3.2], "is 2.5 where it differs most, expected 2; 2 of 3 values differ"),
        ([1.0, np.nan], [1.0, 7.0], "is 7 where it differs most, expected nan; 1 of 2 values differ"),
        ([np.nan, 1.0], [np.nan, 2.0], "is 2 where it differs most, expected 1; 1 of 2 values differ"),
        ([1, 2], [1, 3], "is 3 where it differs most, expected 2; 1 of 2 values differ"),
        ([[1.0]], [1.0], "has the shape [1], expected [1, 1]"),
        (np.array([b"a"], object), np.array([b"b"], object), "is b'b' where it differs most, expected b'a'; 1 of 1"),
        ([1.0, np.nan], [1.00001, np.nan], None),
        (2.0, 3.0, "is 3 where it differs most, expected 2; 1 of 1 values differ"),
    ],
)
def test_a_difference_in_words(before, after, words):
    found = differing(before, after)
    assert found == words or found.startswith(words)
