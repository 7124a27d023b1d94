"""How far decodings are from the truth."""

import tensorflow as tf


def edit_distance(hypotheses, references):
    """Levenshtein distance between rows of tokens, by `tf.edit_distance`.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries are no tokens, wherever they stand. Or a `tf.RaggedTensor`
            of tokens of any type, for instance of words.
        references: int tensor `[B, L]`, or a `tf.RaggedTensor`; likewise.

    Returns:
        float32 tensor `[B]`: insertions, deletions and substitutions, each counted as one.

    Example:

    >>> import numpy as np
    >>> edit_distance(np.array([[1, 2, -1]]), np.array([[1, 3, 2]])).numpy().tolist()
    [1.0]
    """
    hypotheses, references = _sparse(_ragged(hypotheses)), _sparse(_ragged(references))
    return tf.edit_distance(hypotheses, references, normalize=False)[:-1]


def label_error_rate(hypotheses, references):
    """Edits needed to turn all hypotheses into the references, over the number of labels: that of the corpus.

    Args:
        hypotheses: int tensor `[B, M]`; negative entries are no tokens, wherever they stand.
        references: int tensor `[B, L]`; likewise.

    Returns:
        float32 tensor `[]`: 0 is perfect, insertions can push it above 1, and without any label they make it infinite.

    Example:

    >>> import numpy as np
    >>> float(label_error_rate(np.array([[1, 2, -1], [4, -1, -1]]), np.array([[1, 3, 2], [4, -1, -1]])))
    0.25

    Reference: Graves 2012, "Supervised sequence labelling with recurrent neural networks", eq. 2.19.
    """
    return _rate(_ragged(hypotheses), _ragged(references))


def word_error_rate(hypotheses, references):
    """Edits of whole words needed to turn all hypotheses into the references, over the number of words.

    Args:
        hypotheses: list of str or string tensor `[B]`; words are what stands between blanks.
        references: list of str or string tensor `[B]`.

    Returns:
        float32 tensor `[]`, as that of `label_error_rate`.

    Example:

    >>> float(word_error_rate(["the cat sad", "hm"], ["the cat sat", ""]))           # one wrong and one too many of 3
    0.6666666865348816
    """
    hypotheses, references = (
        tf.reshape(tf.convert_to_tensor(texts, tf.string), [-1]) for texts in (hypotheses, references)
    )
    return _rate(tf.strings.split(hypotheses), tf.strings.split(references))


def _rate(hypotheses, references):
    edits = tf.reduce_sum(edit_distance(hypotheses, references))
    return tf.where(edits == 0, 0.0, edits / tf.cast(tf.size(references), tf.float32))


def _sparse(tokens):
    tokens = tokens.to_sparse()
    # With an empty row behind the others, as `tf.edit_distance` refuses a batch of none.
    return tf.SparseTensor(tokens.indices, tokens.values, tokens.dense_shape + [1, 0])


def _ragged(tokens):
    if isinstance(tokens, tf.RaggedTensor):
        return tokens
    tokens = tf.cast(tokens, tf.int32)
    return tf.ragged.boolean_mask(tokens, tokens >= 0)
