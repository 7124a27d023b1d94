"""How far decodings are from the truth."""

import tensorflow as tf


def edit_distance(hypotheses, references):
    """Levenshtein distance between rows of tokens: insertions, deletions and substitutions, each counted as one.

    ```
    D(i, j) = min(D(i - 1, j) + 1, D(i, j - 1) + 1, D(i - 1, j - 1) + [h_i != r_j])        D(0, 0) = 0
    ```

    All cells of an antidiagonal `i + j` are computed at once from the two before it, for all rows of the batch, so that
    the steps are as many as the longest hypothesis and the longest reference have tokens. Compiles under XLA; rows of
    strings do not, as XLA knows no strings.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries are no tokens, wherever they stand.
        references: int tensor `[B, L]`; likewise. Or both are a `tf.RaggedTensor` of tokens of any one type, for
            instance of words.

    Returns:
        float32 tensor `[B]`.

    Raises:
        ValueError: if the numbers of rows differ (in a graph that learns them late: `tf.errors.InvalidArgumentError`),
            or one of the two alone is ragged.

    Example:

    >>> import numpy as np
    >>> edit_distance(np.array([[1, 2, -1]]), np.array([[1, 3, 2]])).numpy().tolist()
    [1.0]

    Reference: Wagner and Fischer 1974, "The string-to-string correction problem", Journal of the ACM 21(1).
    """
    ragged = [isinstance(rows, tf.RaggedTensor) for rows in (hypotheses, references)]
    if any(ragged) and not all(ragged):
        raise ValueError("expected either both rows of tokens as a `tf.RaggedTensor` or none. Received: one")
    if any(ragged):
        numbers = tf.unique(tf.concat([hypotheses.flat_values, references.flat_values], 0)).idx
        numbers = tf.split(numbers, [tf.size(hypotheses.flat_values), tf.size(references.flat_values)])
        hypotheses, references = (
            rows.with_flat_values(values).to_tensor(-1)
            for rows, values in zip((hypotheses, references), numbers, strict=True)
        )
    hypotheses, references = tf.cast(hypotheses, tf.int32), tf.cast(references, tf.int32)
    message = "expected as many hypotheses as references"
    if None not in (rows := (hypotheses.shape[0], references.shape[0])) and rows[0] != rows[1]:
        raise ValueError(f"{message}. Received: {rows[0]} and {rows[1]} rows")
    tf.debugging.assert_equal(tf.shape(hypotheses)[0], tf.shape(references)[0], message)
    return _levenshtein(hypotheses, references)


def label_error_rate(hypotheses, references, blank_index=0):
    """Edits needed to turn all hypotheses into the references, over the number of labels: that of the corpus.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries and blanks are no labels, wherever they stand.
        references: int tensor `[B, L]`; likewise.
        blank_index: int, the class of the blank, which pads. Defaults to 0; -1 if every class is a label.

    Returns:
        float32 tensor `[]`: 0 is perfect, insertions can push it above 1, and without any label they make it infinite.

    Raises:
        ValueError: as `edit_distance`.

    Example:

    >>> import numpy as np
    >>> float(label_error_rate(np.array([[1, 2, -1], [4, -1, -1]]), np.array([[1, 3, 2], [4, 0, 0]])))
    0.25

    Reference: Graves 2012, "Supervised sequence labelling with recurrent neural networks", eq. 2.19.
    """
    hypotheses, references = (tf.cast(rows, tf.int32) for rows in (hypotheses, references))
    hypotheses, references = (tf.where(rows == blank_index, -1, rows) for rows in (hypotheses, references))
    return _rate(edit_distance(hypotheses, references), tf.math.count_nonzero(references >= 0))


def word_error_rate(hypotheses, references):
    """Edits of whole words needed to turn all hypotheses into the references, over the number of words.

    Args:
        hypotheses: list of str or string tensor `[B]`; words are what stands between white space.
        references: list of str or string tensor `[B]`.

    Returns:
        float32 tensor `[]`, as that of `label_error_rate`.

    Raises:
        ValueError: as `edit_distance`.

    Example:

    >>> float(word_error_rate(["the cat sad", "hm"], ["the cat sat", ""]))           # one wrong and one too many of 3
    0.6666666865348816
    """
    hypotheses, references = (
        tf.strings.split(tf.reshape(tf.convert_to_tensor(texts, tf.string), [-1])) for texts in (hypotheses, references)
    )
    return _rate(edit_distance(hypotheses, references), tf.size(references))


def _rate(edits, tokens):
    edits = tf.reduce_sum(edits)
    return tf.where(edits == 0, 0.0, edits / tf.cast(tokens, tf.float32))


@tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2, autograph=False)  # a loop, slow in eager
def _levenshtein(hypotheses, references):
    """Negative entries cost nothing to skip: as they are all made -1, two of them are equal, and one is no token."""
    # The letters of the hypotheses on an antidiagonal run backwards.
    first, second = tf.maximum(hypotheses, -1)[:, ::-1], tf.maximum(references, -1)
    rows, longest, width = tf.shape(first)[0], tf.shape(first)[1], tf.shape(second)[1]
    first = tf.pad(first, [[0, 0], [width, width]], constant_values=-1)
    second = tf.pad(second, [[0, 0], [1, 0]], constant_values=-1)
    insertion, deletion = tf.cast(first >= 0, tf.float32), tf.cast(second >= 0, tf.float32)
    far = tf.fill([rows, 1], 1e9)  # where there is no cell
    # Behind the last column that holds a token in any row, nothing changes.
    last, end = _last(hypotheses), _last(references)

    def step(diagonal, cells, before):
        """`cells` of column j are D(diagonal - 1 - j, j); `before` those of the diagonal before, a column on."""
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
    """How many columns there are up to the last that holds a token."""
    places = tf.range(1, tf.shape(tokens)[1] + 1) * tf.cast(tokens >= 0, tf.int32)
    return tf.reduce_max(tf.pad(tf.reshape(places, [-1]), [[1, 0]]))  # 0 for none at all
