import numpy as np

from keras_dl.ops.ctc import edit_distance

from .textbook import levenshtein


def test_edit_distance_is_that_of_levenshtein():
    generator = np.random.default_rng(7)
    for _ in range(30):
        batch = generator.integers(1, 6)
        # Negative entries anywhere are no tokens.
        hypotheses = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        references = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        expected = [
            levenshtein([t for t in a if t >= 0], [t for t in b if t >= 0])
            for a, b in zip(hypotheses.tolist(), references.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(edit_distance(hypotheses, references), expected)
