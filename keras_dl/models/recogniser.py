"""A reader of lines: convolution, bidirectional LSTM, CTC output."""

import keras
from keras import layers, ops

from keras_dl.layers import CTCOutput


def recogniser(height, vocabulary, filters=32, units=64, dropout=0.3, halvings=1):
    """Reads a sequence of columns as a sequence of labels.

    Two convolutions of 3 x 3 over the image of the columns, each followed by a halving of the height; time is halved
    `halvings` times. Then dropout, a bidirectional LSTM, dropout and `CTCOutput`. Columns of zeros at the end of a row
    are padding: they are masked, and the result is the same with any number of them.

    Args:
        height: int, values of a column.
        vocabulary: list of str, the labels.
        filters: int, of the first convolution; the others have twice as many. Defaults to 32.
        units: int, of each direction of the LSTM. Defaults to 64.
        dropout: float, the share of features dropped before and after the LSTM. Defaults to 0.3.
        halvings: int >= 1, how often the number of frames is halved. Defaults to 1.

    Returns:
        An uncompiled functional `keras.Model`: float `[B, T, height]` named `columns` -> logits
        `[B, ceil(T / 2**halvings), len(vocabulary) + 1]`.

    Example:

    >>> model = recogniser(10, list("0123456789"))
    >>> model(keras.ops.zeros((2, 31, 10))).shape
    TensorShape([2, 16, 11])
    """
    columns = keras.Input((None, height), name="columns")
    # A column counts when it or any later one has ink.
    ink = ops.cast(ops.any(ops.not_equal(columns, 0), axis=-1), "int32")
    mask = ops.flip(ops.cumsum(ops.flip(ink, axis=1), axis=1), axis=1) > 0

    x = ops.expand_dims(columns, -1)
    for number in range(max(halvings, 2)):
        x = layers.Conv2D(filters * min(number + 1, 2), 3, padding="same", activation="relu")(x)
        # The bias lights up padding, which the next convolution would carry back into the last columns.
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
