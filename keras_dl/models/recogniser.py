"""A text line recogniser: convolution, bidirectional LSTM, CTC output."""

import keras
from keras import layers, ops

from keras_dl.layers import CTCOutput


def recogniser(height, vocabulary, filters=32, units=64, dropout=0.3, halvings=1):
    """Builds a model that reads a sequence of image columns as a sequence of labels.

    It consists of 3 x 3 convolutions, dropout, a bidirectional LSTM, dropout and `CTCOutput`. Each convolution is
    followed by pooling that halves the height; the first `halvings` also halve the number of frames. Columns of zeros
    at the end of a row are padding: they are masked, and their number does not change the result.

    Args:
        height: int, values per column.
        vocabulary: list of str, the labels.
        filters: int, filters of the first convolution; the others have twice as many. Defaults to 32.
        units: int, units of each direction of the LSTM. Defaults to 64.
        dropout: float, the dropout rate before and after the LSTM. Defaults to 0.3.
        halvings: int >= 1, how often the number of frames is halved; there are `max(halvings, 2)` convolutions.
            Defaults to 1.

    Returns:
        An uncompiled functional `keras.Model`: float `[B, T, height]` named `columns` -> logits
        `[B, ceil(T / 2**halvings), len(vocabulary) + 1]`.

    Example:

    >>> model = recogniser(10, list("0123456789"))
    >>> model(keras.ops.zeros((2, 31, 10))).shape
    TensorShape([2, 16, 11])
    """
    columns = keras.Input((None, height), name="columns")
    # A column is valid if it or any later column has ink.
    ink = ops.cast(ops.any(ops.not_equal(columns, 0), axis=-1), "int32")
    mask = ops.flip(ops.cumsum(ops.flip(ink, axis=1), axis=1), axis=1) > 0

    x = ops.expand_dims(columns, -1)
    for number in range(max(halvings, 2)):
        x = layers.Conv2D(filters * min(number + 1, 2), 3, padding="same", activation="relu")(x)
        # The bias makes padding non-zero, and the next convolution would mix it into the last columns.
        x = x * ops.cast(mask[:, :, None, None], x.dtype)
        halves = number < halvings
        x = layers.MaxPooling2D((2 if halves else 1, 2), padding="same")(x)
        mask = mask[:, ::2] if halves else mask
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]))(x)

    x = layers.Dropout(dropout)(x)
    x = layers.Bidirectional(layers.LSTM(units, return_sequences=True))(x, mask=mask)
    x = layers.Dropout(dropout)(x)
    logits = CTCOutput(vocabulary, name="ctc_output")(x, mask=mask)
    return keras.Model(columns, logits, name="recogniser")
