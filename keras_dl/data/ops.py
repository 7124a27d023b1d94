"""Operations on one example, for `batches(example=...)` and for serving signatures alike."""

import tensorflow as tf

from keras_dl.ops.special_ids import END, START


def columns(image):
    """An image as a sequence of its columns: what a model that reads from left to right takes.

    Pixel values may be on any scale: the brightest of the image becomes 1.

    Args:
        image: number tensor `[..., height, width]`, 0 = background; what is below is background, too.

    Returns:
        float32 tensor `[..., width, height]`, values from 0 to 1; zeros for an image without ink.

    Example:

    >>> columns(tf.constant([[0, 8, 0], [0, 0, 16]], tf.uint8)).numpy().tolist()
    [[0.0, 0.0], [0.5, 0.0], [0.0, 1.0]]
    """
    image = tf.maximum(tf.linalg.matrix_transpose(tf.cast(image, tf.float32)), 0)
    return tf.math.divide_no_nan(image, tf.reduce_max(image, axis=(-2, -1), keepdims=True))


def fit_height(image, height):
    """Brings images to the height that a model was trained on: padded where they are lower, shrunk where higher.

    Args:
        image: number tensor `[B, H, W]`, 0 = background.
        height: int, the rows wanted.

    Returns:
        float32 tensor `[B, height, W']`; W' is W, or in proportion where the image was shrunk.

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
    image = tf.pad(image, [[0, 0], [0, 0], [0, tf.maximum(1 - width, 0)]])  # an image of no width has one empty column
    width = tf.maximum(width, 1)
    width = tf.cast(tf.math.ceil(tf.cast(width * height, tf.float32) / tf.cast(rows, tf.float32)), tf.int32)
    # The area of each new pixel is averaged; at the same size this is the identity.
    image = tf.image.resize(image[..., None], [height, width], method="area")
    return tf.ensure_shape(image[..., 0], [None, height, None])


def windows(text, length, context=0):
    """A text as windows of ids, each id with the one that follows: what a language model learns from.

    The ids are the bytes of the text in UTF-8: every text has them and none is unknown. Byte 0, which no text holds,
    stands before the first one and fills the last window.

    Args:
        text: string tensor `[]`.
        length: int, ids of a window.
        context: int below `length`: a window repeats so many ids of the one before, to read and not to predict.
            Defaults to 0.

    Returns:
        `(ids, following, weights)`, int32, int32 and float32 `[N, length]`. A weight is 1 where the following id is to
        be predicted, so that each byte of the text counts once, else 0.

    Example:

    >>> ids, following, weights = windows("abcde", length=3, context=1)
    >>> ids.numpy().tolist(), following.numpy().tolist()
    ([[0, 97, 98], [98, 99, 100]], [[97, 98, 99], [99, 100, 101]])
    >>> weights.numpy().tolist()
    [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """
    values = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32)
    count = tf.shape(values)[0]
    # The ids after the last start that still has something to predict are context of nothing.
    starts = tf.range(0, tf.maximum(count - context, tf.minimum(count, 1)), length - context)[:, None]
    positions = starts + tf.range(length)
    padded = tf.pad(values, [[1, length]])
    counts = tf.logical_and(positions < count, tf.logical_or(starts == 0, positions >= starts + context))
    return tf.gather(padded, positions), tf.gather(padded, positions + 1), tf.cast(counts, tf.float32)


def teacher_forcing(source, target):
    """A pair of sequences as what a decoder learns from: each label is to be told from the right ones before it.

    Args:
        source: int tensor `[S]` of ids.
        target: int tensor `[T]` of ids, without start and end.

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
    """The words of texts in lower case with single blanks between them, punctuation standing alone.

    ASCII's punctuation is, but for the apostrophe; ends of lines as HTML has them (`<br />`) are blanks.

    Args:
        text: string tensor `[B]` or `[]`, UTF-8.
        most: int, the first so many words of a text are taken. Defaults to 400.

    Returns:
        string tensor of that shape.

    Example:

    >>> words(tf.constant(["Isn't it GOOD?<br />It's (very) good!", ""])).numpy().tolist()
    [b"isn't it good ? it's ( very ) good !", b'']
    """
    shape = tf.shape(text)
    text = tf.strings.regex_replace(tf.strings.lower(tf.reshape(text, [-1]), encoding="utf-8"), "<br */?>", " ")
    text = tf.strings.regex_replace(text, r"([!-&(-/:-@\[-`{-~])", r" \1 ")
    found = tf.strings.split(text)[:, :most].to_tensor("")
    return tf.reshape(tf.strings.strip(tf.strings.reduce_join(found, axis=-1, separator=" ")), shape)
