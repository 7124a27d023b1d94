"""A recurrent language model."""

import keras
from keras import layers

from keras_dl.ops.precision import wide


def language_model(vocabulary=256, embedding=64, units=256, depth=1, dropout=0.1):
    """Builds a model that predicts each id from the ids before it.

    The layers are an embedding, `depth` LSTMs, each followed by dropout, and a projection to logits.

    Args:
        vocabulary: int, the number of ids. Defaults to 256, for bytes.
        embedding: int, the embedding size. Defaults to 64.
        units: int, units of each LSTM. Defaults to 256.
        depth: int, the number of LSTMs. Defaults to 1.
        dropout: float, the dropout rate after each LSTM. Defaults to 0.1.

    Returns:
        An uncompiled functional `keras.Model`: int32 `[B, T]` named `ids` -> logits `[B, T, vocabulary]`, float32
        also in half precision.

    Example:

    >>> language_model(units=16)(keras.ops.zeros((2, 7), "int32")).shape
    TensorShape([2, 7, 256])

    Reference: Graves 2013, "Generating sequences with recurrent neural networks", https://arxiv.org/abs/1308.0850
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(vocabulary, embedding)(ids)
    for _ in range(depth):
        x = layers.LSTM(units, return_sequences=True)(x)
        x = layers.Dropout(dropout)(x)
    logits = layers.Dense(vocabulary, dtype=wide(x.dtype), name="logits")(x)
    return keras.Model(ids, logits, name="language_model")


def one_step(model):
    """Returns a language model as a recurrence over single ids, to generate text without rereading the prefix.

    Args:
        model: a model from `language_model`.

    Returns:
        `(step, start)`: `step(ids, state) -> (logits, state)` with ids int32 `[B]` and logits float32
        `[B, vocabulary]`, and `start(B) -> state`, the initial state.

    Example:

    >>> model = language_model(units=16, depth=2)
    >>> step, start = one_step(model)
    >>> _, state = step(keras.ops.array([7]), start(1))
    >>> logits, _ = step(keras.ops.array([8]), state)
    >>> bool(keras.ops.all(keras.ops.isclose(logits, model(keras.ops.array([[7, 8]]))[:, 1], atol=1e-5)))
    True
    """

    def step(ids, state):
        x, after = ids, []
        for layer in model.layers[1:]:
            if isinstance(layer, layers.LSTM):
                x, cell_state = layer.cell(x, state[len(after)], training=False)
                after.append(tuple(cell_state))
            else:
                x = layer(x, training=False) if isinstance(layer, layers.Dropout) else layer(x)
        return x, tuple(after)

    def start(batch):
        lstms = [layer for layer in model.layers if isinstance(layer, layers.LSTM)]
        return tuple(tuple(lstm.cell.get_initial_state(batch)) for lstm in lstms)

    return step, start
