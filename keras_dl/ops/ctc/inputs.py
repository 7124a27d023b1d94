"""Validation of labels, logits and lengths."""

import tensorflow as tf

from keras_dl.ops.dense import dense


def checked_inputs(labels, logits, label_length=None, logit_length=None, blank_index=0):
    """Validates the inputs, fills in missing lengths and casts the logits to at least float32.

    Args:
        labels: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        logits: float tensor `[B, T, V]`; padded frames may contain any values.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        `(labels, logits, label_length, logit_length)`, int32, except for the logits, which are float32 or float64.

    Raises:
        ValueError: if a shape, length or label is invalid; the message names the first such row. A graph raises
            `tf.errors.InvalidArgumentError`; under XLA, which cannot raise, there is no check.

    Example:

    >>> checked_inputs(tf.constant([[1, 3]]), tf.zeros([1, 4, 3]))
    Traceback (most recent call last):
        ...
    ValueError: Labels must be classes from 0 to 2 other than the blank 0. Received in row 0: [1 3]
    """
    labels, _ = dense(labels, -1, "int32")
    logits, logit_length = dense_logits(logits, logit_length)
    labels, logits = tf.cast(labels, tf.int32), tf.convert_to_tensor(logits)
    logits = logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
    if labels.shape.rank != 2 or logits.shape.rank != 3 or not labels.shape[:1].is_compatible_with(logits.shape[:1]):
        raise ValueError(f"Expected labels [B, L] and logits [B, T, V]. Received: {labels.shape} and {logits.shape}")
    if blank_index < 0 or (logits.shape[2] is not None and blank_index >= logits.shape[2]):
        known = "V - 1" if logits.shape[2] is None else logits.shape[2] - 1
        raise ValueError(f"`blank_index` must be a class from 0 to {known}. Received: {blank_index}")
    label_length, logit_length = (
        _lengths(length, name, logits.shape[0])
        for length, name in ((label_length, "label_length"), (logit_length, "logit_length"))
    )
    batch, frames, classes = tf.unstack(tf.shape(logits))
    longest = tf.shape(labels)[1]
    if label_length is None:
        label_length = tf.math.count_nonzero((labels >= 0) & (labels != blank_index), axis=1, dtype=tf.int32)
    logit_length = tf.fill([batch], frames) if logit_length is None else logit_length

    good = (label_length >= 0) & (label_length <= longest)
    checks = [require(good, "Label lengths must be from 0 to {}. Received in row {}: {}", longest, label_length)]
    good = (logit_length >= 0) & (logit_length <= frames)
    checks += [require(good, "Logit lengths must be from 0 to {}. Received in row {}: {}", frames, logit_length)]
    good = (labels >= 0) & (labels < classes) & (labels != blank_index)
    good = tf.reduce_all(good | ~tf.sequence_mask(label_length, longest), axis=1)
    expected = f"Labels must be classes from 0 to {{}} other than the blank {blank_index}. Received in row {{}}: {{}}"
    checks += [require(good, expected, classes - 1, labels)]
    with tf.control_dependencies(checks):  # otherwise a gather may fail first, with a less helpful message
        return tuple(tf.identity(tensor) for tensor in (labels, logits, label_length, logit_length))


def specs_of(dtype):
    """Returns the specs of `(labels, logits, label_length, logit_length, blank_index)` of any size, for `tf.function`.

    Args:
        dtype: the dtype of the logits.

    Example:

    >>> [spec.shape.rank for spec in specs_of(tf.float32)]
    [2, 3, 1, 1, 0]
    """
    rows, counts = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
    return [rows, tf.TensorSpec([None, None, None], dtype), counts, counts, tf.TensorSpec([], tf.int32)]


def dense_logits(logits, logit_length=None):
    """Converts ragged logits, or a list of `[T, V]`, to `(logits [B, T, V], logit_length [B])`; keeps dense ones.

    Example:

    >>> logits, length = dense_logits(tf.ragged.constant([[[0.0, 1.0]], []], ragged_rank=1, inner_shape=(2,)))
    >>> logits.shape, length.numpy().tolist()
    (TensorShape([2, 1, 2]), [1, 0])
    """
    logits, lengths = dense(logits)
    return logits, lengths if logit_length is None else logit_length


def _lengths(lengths, name, batch):
    if lengths is None:
        return None
    lengths = tf.convert_to_tensor(lengths)
    if not lengths.dtype.is_integer or not lengths.shape.is_compatible_with([batch]):
        raise ValueError(f"`{name}` must be integers [{batch}]. Received: {lengths.dtype.name} {lengths.shape}")
    return tf.cast(lengths, tf.int32)


def checked_logits(logits, logit_length=None, blank_index=0):
    """Validates the inputs of a decoder, like `checked_inputs` without labels, and rejects NaN in valid frames.

    Args:
        logits, logit_length, blank_index: as for `checked_inputs`.

    Returns:
        `(logits, logit_length)`.

    Raises:
        ValueError: as for `checked_inputs` and `refuse_nan`.

    Example:

    >>> checked_logits(tf.zeros([2, 5, 3], tf.float16))[1].numpy().tolist()
    [5, 5]
    """
    logits, logit_length = dense_logits(logits, logit_length)
    logits = tf.convert_to_tensor(logits)
    no_labels = tf.zeros([tf.shape(logits)[0], 0], tf.int32)
    _, logits, _, logit_length = checked_inputs(no_labels, logits, None, logit_length, blank_index)
    refuse_nan(logits, logit_length)
    return logits, logit_length


def refuse_nan(logits, logit_length):
    """Raises an error if a valid frame contains NaN, or if its largest logit is infinite.

    Args:
        logits: float tensor `[B, T, V]`.
        logit_length: int32 tensor `[B]`.

    Raises:
        ValueError: as for `checked_inputs`.

    Example:

    >>> refuse_nan(tf.constant([[[0.0, 1.0], [0.0, float("nan")]]]), tf.constant([1]))     # the NaN is in the padding
    """
    frames = tf.shape(logits)[1]
    bad = tf.reduce_any(tf.math.is_nan(logits), axis=2) | ~tf.math.is_finite(tf.reduce_max(logits, axis=2))
    bad &= tf.sequence_mask(logit_length, frames)
    first = tf.reduce_min(tf.where(bad, tf.range(frames), frames), axis=1)
    expected = (
        "Logits of valid frames (of {} per row) must not be NaN, and the largest must be finite. "
        "Received in row {}: NaN or infinity in frame {}"
    )
    require(~tf.reduce_any(bad, axis=1), expected, frames, first)


def require(good, expected, limit, values):
    """Raises an error that names the first invalid row.

    Args:
        good: bool tensor `[B]`, True for valid rows.
        expected: str with three placeholders `{}`: the limit, the row and its value.
        limit: int, or int tensor `[]`.
        values: tensor `[B, ...]`.

    Returns:
        The assert operation in a graph, else None.

    Raises:
        ValueError: as for `checked_inputs`.

    Example:

    >>> require(tf.constant([True, False]), "At most {}. Received in row {}: {}", 3, tf.constant([2, 5]))
    Traceback (most recent call last):
        ...
    ValueError: At most 3. Received in row 1: 5
    """
    if tf.executing_eagerly() and tf.reduce_all(good):
        return None
    rows, bad = tf.where(~good), tf.boolean_mask(values, ~good)
    if tf.executing_eagerly():
        raise ValueError(expected.format(int(limit), int(rows[0, 0]), bad[0].numpy()))
    first, second, third, end = expected.split("{}")
    return tf.debugging.Assert(tf.reduce_all(good), [first, limit, second, rows[:1], third, bad[:1], end], summarize=16)
