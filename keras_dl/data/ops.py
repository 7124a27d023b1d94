"""Preprocessing for `batches(example=...)` and serving signatures."""

import tensorflow as tf

from keras_dl.ops.special_ids import END, START


def columns(image):
    """Converts an image to the sequence of its columns, for models that read from left to right.

    Pixel values may have any scale: the image's maximum becomes 1.

    Args:
        image: number tensor `[..., height, width]`, 0 = background; negative values are treated as background.

    Returns:
        float32 tensor `[..., width, height]`, values from 0 to 1; zeros for an image without ink.

    Example:

    >>> columns(tf.constant([[0, 8, 0], [0, 0, 16]], tf.uint8)).numpy().tolist()
    [[0.0, 0.0], [0.5, 0.0], [0.0, 1.0]]
    """
    image = tf.maximum(tf.linalg.matrix_transpose(tf.cast(image, tf.float32)), 0)
    return tf.math.divide_no_nan(image, tf.reduce_max(image, axis=(-2, -1), keepdims=True))


def fit_height(image, height):
    """Pads or scales images to a given height: shorter images are padded, taller ones are scaled down.

    Args:
        image: number tensor `[B, H, W]`, 0 = background.
        height: int, the height of the result.

    Returns:
        float32 tensor `[B, height, W']`; W' is W, or scaled in proportion.

    Example:

    >>> fit_height(tf.ones([1, 8, 5]), 10).shape.as_list()
    [1, 10, 5]
    >>> fit_height(tf.ones([1, 20, 30]), 10).shape.as_list()
    [1, 10, 15]
    """
    image = tf.cast(image, tf.float32)
    rows, width = tf.shape(image)[1], tf.shape(image)[2]
    missing = tf.maximum(height - rows, 0)
    image = tf.pad(image, [[0, 0], [missing // 2, missing - missing // 2], [0, 0]])
    rows = tf.maximum(rows, height)
    image = tf.pad(image, [[0, 0], [0, 0], [0, tf.maximum(1 - width, 0)]])  # an image without columns gets one
    width = tf.maximum(width, 1)
    width = tf.cast(tf.math.ceil(tf.cast(width * height, tf.float32) / tf.cast(rows, tf.float32)), tf.int32)
    # Averages the area of each new pixel; the identity if the size does not change.
    image = tf.image.resize(image[..., None], [height, width], method="area")
    return tf.ensure_shape(image[..., 0], [None, height, None])


def windows(text, length, context=0):
    """Splits a text into windows of ids and their next ids, to train a language model.

    The ids are the UTF-8 bytes of the text, so no id is unknown. Byte 0, which does not occur in text, is the id before
    the first byte and the padding of the last window.

    Args:
        text: string tensor `[]`.
        length: int, ids per window.
        context: int below `length`, the number of ids repeated from the previous window as context, without weight.
            Defaults to 0.

    Returns:
        `(ids, following, weights)`, int32, int32 and float32 `[N, length]`. The weight is 1 where the following id is a
        target, so that each byte of the text counts once, and 0 elsewhere.

    Example:

    >>> ids, following, weights = windows("abcde", length=3, context=1)
    >>> ids.numpy().tolist(), following.numpy().tolist()
    ([[0, 97, 98], [98, 99, 100]], [[97, 98, 99], [99, 100, 101]])
    >>> weights.numpy().tolist()
    [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """
    values = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32)
    count = tf.shape(values)[0]
    # A window that starts later would contain only context.
    starts = tf.range(0, tf.maximum(count - context, tf.minimum(count, 1)), length - context)[:, None]
    positions = starts + tf.range(length)
    padded = tf.pad(values, [[1, length]])
    counts = tf.logical_and(positions < count, tf.logical_or(starts == 0, positions >= starts + context))
    return tf.gather(padded, positions), tf.gather(padded, positions + 1), tf.cast(counts, tf.float32)


def teacher_forcing(source, target):
    """Converts a pair of sequences to the inputs and labels of a decoder trained with teacher forcing.

    Args:
        source: int tensor `[S]` of ids.
        target: int tensor `[T]` of ids, without start and end tokens.

    Returns:
        `({"source": source, "target": [start, *target]}, [*target, end])`, int32, with the ids of
        `keras_dl.ops.special_ids`.

    Example:

    >>> inputs, labels = teacher_forcing(tf.constant([7, 8]), tf.constant([4, 5, 6]))
    >>> inputs["source"].numpy().tolist(), inputs["target"].numpy().tolist(), labels.numpy().tolist()
    ([7, 8], [2, 4, 5, 6], [4, 5, 6, 3])
    """
    source, target = tf.cast(source, tf.int32), tf.cast(target, tf.int32)
    inputs = {"source": source, "target": tf.concat([[START], target], axis=0)}
    return inputs, tf.concat([target, [END]], axis=0)


def words(text, most=400):
    """Normalizes texts to lower-case words separated by single spaces, with punctuation as separate words.

    Punctuation means ASCII punctuation except the apostrophe. HTML line breaks (`<br />`) become spaces.

    Args:
        text: string tensor `[B]` or `[]`, UTF-8.
        most: int, the maximum number of words per text; the rest is dropped. Defaults to 400.

    Returns:
        string tensor of the same shape.

    Example:

    >>> words(tf.constant(["Isn't it GOOD?<br />It's (very) good!", ""])).numpy().tolist()
    [b"isn't it good ? it's ( very ) good !", b'']
    """
    shape = tf.shape(text)
    text = tf.strings.regex_replace(tf.strings.lower(tf.reshape(text, [-1]), encoding="utf-8"), "<br */?>", " ")
    text = tf.strings.regex_replace(text, r"([!-&(-/:-@\[-`{-~])", r" \1 ")
    found = tf.strings.split(text)[:, :most].to_tensor("")
    return tf.reshape(tf.strings.strip(tf.strings.reduce_join(found, axis=-1, separator=" ")), shape)
