"""Recognizers of text lines and of speech: convolution, bidirectional LSTM, CTC output."""

import keras
from keras import layers, ops

from keras_dl.layers import CTCOutput, LogMel, PeepholeLSTM, SpecAugment, UtteranceNormalization, VocalTractPerturbation

LAST = {"data_format": "channels_last"}  # of our own tensors, regardless of keras.config.image_data_format()
HOP = 0.01
HALVINGS = 2


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
        halvings: int >= 1, how many times the number of frames is halved; there are `max(halvings, 2)` convolutions.
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
        x = layers.Conv2D(filters * min(number + 1, 2), 3, padding="same", activation="relu", **LAST)(x)
        # The bias makes padding non-zero, and the next convolution would mix it into the last columns.
        x = x * ops.cast(mask[:, :, None, None], x.dtype)
        halves = number < halvings
        x = layers.MaxPooling2D((2 if halves else 1, 2), padding="same", **LAST)(x)
        mask = mask[:, ::2] if halves else mask
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]))(x)

    x = layers.Dropout(dropout)(x)
    x = layers.Bidirectional(layers.LSTM(units, return_sequences=True))(x, mask=mask)
    x = layers.Dropout(dropout)(x)
    logits = CTCOutput(vocabulary, name="ctc_output")(x, mask=mask)
    return keras.Model(columns, logits, name="recogniser")


def speech_recogniser(
    vocabulary,
    sample_rate=8000,
    bands=40,
    filters=32,
    units=96,
    recurrent="peephole",
    causal=False,
    dropout=0.3,
    tract=1.1,
    seed=None,
):
    """Builds a model that maps a waveform to a sequence of labels, with one output frame every 40 ms.

    It consists of `LogMel`, `VocalTractPerturbation`, `UtteranceNormalization` and `SpecAugment`; two 3 x 3
    convolutions with stride 2 over time and bands; dropout, a recurrent layer in one or both directions, dropout and
    `CTCOutput`. Samples beyond a row's length are padding: neither their number nor their values change the result.

    Args:
        vocabulary: list of str, the labels.
        sample_rate: int, samples per second. Defaults to 8000.
        bands: int, number of mel bands. Defaults to 40.
        filters: int, filters of each convolution. Defaults to 32.
        units: int, units of each direction of the recurrent layer. Defaults to 96.
        recurrent: `"peephole"` (default) or `"lstm"`.
        causal: bool, whether a frame depends on no samples after its own 25 ms window: one direction, running
            normalization, causal convolutions. Defaults to False.
        dropout: float, the dropout rate before and after the recurrent layer. Defaults to 0.3.
        tract: float >= 1, the largest factor of `VocalTractPerturbation`; 1 disables it. Defaults to 1.1.
        seed: int, seeds the augmentation; or None (default).

    Returns:
        An uncompiled functional `keras.Model`: `{"waveform": float [B, samples] from -1 to 1, "length": int [B]}` ->
        logits `[B, ceil(ceil(samples / hop) / 4), len(vocabulary) + 1]`.

    Raises:
        ValueError: if `recurrent` is unknown.

    Example:

    >>> model = speech_recogniser(list("0123456789"), filters=4, units=8)
    >>> model({"waveform": keras.ops.zeros((2, 8000)), "length": keras.ops.array([8000, 500])}).shape
    TensorShape([2, 25, 11])
    """
    kinds = {"peephole": PeepholeLSTM, "lstm": layers.LSTM}
    if recurrent not in kinds:
        raise ValueError(f"`recurrent` must be one of {', '.join(kinds)}. Received: {recurrent!r}")
    waveform = keras.Input((None,), name="waveform")
    length = keras.Input((), dtype="int32", name="length")
    mask = ops.cumsum(ops.ones_like(waveform, dtype="int32"), axis=1) <= ops.expand_dims(length, 1)

    front = LogMel(sample_rate, hop=HOP, bands=bands, name="log_mel")
    x = front(waveform, mask=mask)
    mask = mask[:, :: front.stride]
    if tract > 1:
        x = VocalTractPerturbation(tract, sample_rate, seed=seed)(x, mask=mask)
    x = UtteranceNormalization(per_feature=False, running=causal, name="normalization")(x, mask=mask)
    x = SpecAugment(seed=seed)(x, mask=mask)

    x = ops.expand_dims(x, -1)
    for _ in range(HALVINGS):
        # "same" padding before the first frame would depend on the length; this does not.
        x = layers.ZeroPadding2D(((2, 0) if causal else (1, 1), (1, 1)), **LAST)(x)
        x = layers.Conv2D(filters, 3, strides=2, activation="relu", **LAST)(x)
        mask = mask[:, ::2]
        # The bias makes padding non-zero, and the next convolution would mix it into the last frames.
        x = ops.where(mask[:, :, None, None], x, ops.zeros_like(x))
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]))(x)

    x = layers.Dropout(dropout)(x)
    layer = kinds[recurrent](units, return_sequences=True)
    x = (layer if causal else layers.Bidirectional(layer))(x, mask=mask)
    x = layers.Dropout(dropout)(x)
    logits = CTCOutput(vocabulary, name="ctc_output")(x, mask=mask)
    return keras.Model({"waveform": waveform, "length": length}, logits, name="speech_recogniser")
