"""Edit distance and error rates of decodings."""

import tensorflow as tf

from keras_dl.ops.checks import require_rank
from keras_dl.ops.dense import dense


def edit_distance(hypotheses, references):
    """Computes the Levenshtein distance between rows of tokens: insertions, deletions and substitutions cost one each.

    ```
    D(i, j) = min(D(i - 1, j) + 1, D(i, j - 1) + 1, D(i - 1, j - 1) + [h_i != r_j])        D(0, 0) = 0
    ```

    All cells of an antidiagonal `i + j` are computed at once from the two before it, for all rows of the batch; the
    number of steps is the sum of the lengths of the longest hypothesis and the longest reference. It compiles under
    XLA, except for strings, which XLA does not support.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries are ignored at any position.
        references: int tensor `[B, L]`, in the same format. Alternatively, both are a `tf.RaggedTensor` with tokens
            of one type, for example words.

    Returns:
        float32 tensor `[B]`.

    Raises:
        ValueError: if the numbers of rows differ (`tf.errors.InvalidArgumentError` in a graph with unknown batch size),
            or if only one of the two is ragged.

    Example:

    >>> import numpy as np
    >>> edit_distance(np.array([[1, 2, -1]]), np.array([[1, 3, 2]])).numpy().tolist()
    [1.0]

    Reference: Wagner and Fischer 1974, "The string-to-string correction problem", Journal of the ACM 21(1).
    """
    ragged = [isinstance(rows, tf.RaggedTensor) for rows in (hypotheses, references)]
    if any(ragged) and not all(ragged):
        raise ValueError("Either both arguments or neither must be a `tf.RaggedTensor`. Received: one")
    if any(ragged):
        numbers = tf.unique(tf.concat([hypotheses.flat_values, references.flat_values], 0)).idx
        numbers = tf.split(numbers, [tf.size(hypotheses.flat_values), tf.size(references.flat_values)])
        hypotheses, references = (
            rows.with_flat_values(values).to_tensor(-1)
            for rows, values in zip((hypotheses, references), numbers, strict=True)
        )
    hypotheses, references = (tf.cast(dense(rows, -1, "int32")[0], tf.int32) for rows in (hypotheses, references))
    for name, rows in (("hypotheses", hypotheses), ("references", references)):
        require_rank(name, None if rows.shape.rank is None else rows.shape, "[B, tokens]")
    message = "Expected as many hypotheses as references"
    if None not in (rows := (hypotheses.shape[0], references.shape[0])) and rows[0] != rows[1]:
        raise ValueError(f"{message}. Received: {rows[0]} and {rows[1]} rows")
    tf.debugging.assert_equal(tf.shape(hypotheses)[0], tf.shape(references)[0], message)
    return _levenshtein(hypotheses, references)


def label_error_rate(hypotheses, references, blank_index=0):
    """Computes the edits that turn all hypotheses into the references, divided by the total number of labels.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries and blanks are ignored at any position.
        references: int tensor `[B, L]`, in the same format.
        blank_index: int, the class of the blank, used as padding. Defaults to 0; -1 if every class is a label.

    Returns:
        float32 tensor `[]`: 0 is perfect, insertions can raise it above 1, and it is infinite if there are insertions
            but no labels.

    Raises:
        ValueError: as for `edit_distance`.

    Example:

    >>> import numpy as np
    >>> float(label_error_rate(np.array([[1, 2, -1], [4, -1, -1]]), np.array([[1, 3, 2], [4, 0, 0]])))
    0.25

    Reference: Graves 2012, "Supervised sequence labelling with recurrent neural networks", eq. 2.19.
    """
    hypotheses, references = (tf.cast(dense(rows, -1, "int32")[0], tf.int32) for rows in (hypotheses, references))
    hypotheses, references = (tf.where(rows == blank_index, -1, rows) for rows in (hypotheses, references))
    return _rate(edit_distance(hypotheses, references), tf.math.count_nonzero(references >= 0))


def word_error_rate(hypotheses, references):
    """Computes the word edits that turn all hypotheses into the references, divided by the total number of words.

    Args:
        hypotheses: list of str or string tensor `[B]`; words are separated by whitespace.
        references: list of str or string tensor `[B]`.

    Returns:
        float32 tensor `[]`, as for `label_error_rate`.

    Raises:
        ValueError: as for `edit_distance`.

    Example:

    >>> float(word_error_rate(["the cat sad", "hm"], ["the cat sat", ""]))   # one substitution, one insertion, 3 words
    0.6666666865348816
    """
    hypotheses, references = (
        tf.strings.split(tf.reshape(tf.convert_to_tensor(texts, tf.string), [-1])) for texts in (hypotheses, references)
    )
    return _rate(edit_distance(hypotheses, references), tf.size(references))


def _rate(edits, tokens):
    edits = tf.reduce_sum(edits)
    return tf.where(edits == 0, 0.0, edits / tf.cast(tokens, tf.float32))


@tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2, autograph=False)  # a loop, slow in eager mode
def _levenshtein(hypotheses, references):
    """Computes the distances. Negative entries cost nothing: all become -1, so two match, and skipping one is free."""
    # Along an antidiagonal, the hypotheses are read backward.
    first, second = tf.maximum(hypotheses, -1)[:, ::-1], tf.maximum(references, -1)
    rows, longest, width = tf.shape(first)[0], tf.shape(first)[1], tf.shape(second)[1]
    first = tf.pad(first, [[0, 0], [width, width]], constant_values=-1)
    second = tf.pad(second, [[0, 0], [1, 0]], constant_values=-1)
    insertion, deletion = tf.cast(first >= 0, tf.float32), tf.cast(second >= 0, tf.float32)
    far = tf.fill([rows, 1], 1e9)  # outside the table
    # Nothing changes after the last column that contains a token in any row.
    last, end = _last(hypotheses), _last(references)

    def step(diagonal, cells, before):
        """Computes the next antidiagonal; `cells[j]` is D(diagonal - 1 - j, j), `before` the previous one, shifted."""
        window = [0, width + longest - diagonal], [rows, width + 1]
        left = tf.concat([far, cells[:, :-1]], 1)
        change = tf.cast(tf.slice(first, *window) != second, tf.float32)
        new = tf.minimum(cells + tf.slice(insertion, *window), tf.minimum(left + deletion, before + change))
        return diagonal + 1, new, left

    cells = tf.concat([tf.zeros([rows, 1]), tf.fill([rows, width], 1e9)], 1)
    nothing = tf.fill([rows, width + 1], 1e9)
    _, cells, _ = tf.while_loop(lambda diagonal, *_: diagonal <= last + end, step, (1, cells, nothing))
    return tf.gather(cells, end, axis=1)


def _last(tokens):
    """Returns the number of columns up to the last one that contains a token."""
    places = tf.range(1, tf.shape(tokens)[1] + 1) * tf.cast(tokens >= 0, tf.int32)
    return tf.reduce_max(tf.pad(tf.reshape(places, [-1]), [[1, 0]]))  # 0 without any columns
