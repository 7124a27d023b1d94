"""A recurrent encoder of source sequences."""

from typing import NamedTuple

import keras
from keras import ops

from keras_dl.layers import PeepholeLSTM
from keras_dl.ops.checks import require_count

LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "peephole": PeepholeLSTM}


class Encoded(NamedTuple):
    """The output of an encoder and the input of a decoder.

    Args:
        memory: float tensor `[B, S, D]`, one vector per source symbol.
        mask: bool tensor `[B, S]`, False at padding.
        summary: float tensor `[B, K]`, one vector per sequence, for the decoder's initial state.

    Example:

    >>> Encoded(memory=None, mask=None, summary=None)._fields
    ('memory', 'mask', 'summary')
    """

    memory: object
    mask: object
    summary: object


@keras.saving.register_keras_serializable("keras_dl")
class RecurrentEncoder(keras.layers.Layer):
    """An embedding and a stack of recurrent layers in one or both directions.

    Dropout follows the embedding and each recurrent layer. Padding, id 0, does not change the result.

    Args:
        vocabulary: int, the number of ids, `Tokenizer.size`.
        units: int, units of each recurrent layer and direction.
        embedding: int, the embedding size. Defaults to 64.
        depth: int, the number of recurrent layers. Defaults to 1.
        cell: `"lstm"` (default), `"gru"` or `"peephole"`.
        bidirectional: bool, whether to read in both directions and concatenate the outputs. Defaults to True.
        reverse: bool, whether a unidirectional encoder reads the source from its end (Sutskever 2014). The memory keeps
            the order of the source. Defaults to False.
        dropout: float in [0, 1). Defaults to 0.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        source: int tensor `[B, S]`, S at least 1, with padding (0) at the end. An empty row is read as one padding
            symbol, but its mask is all False.
        training: bool, whether to apply dropout.

    Returns:
        `Encoded`: memory `[B, S, D]` with `D = units`, or twice that if bidirectional; the summary is the concatenated
        final states of the last layer.

    Raises:
        ValueError: if `cell` is unknown, a size is below 1, or `reverse` is combined with `bidirectional`.

    Example:

    >>> encoded = RecurrentEncoder(vocabulary=9, units=4)(keras.ops.array([[4, 5, 6], [7, 0, 0]]))
    >>> encoded.memory.shape, encoded.mask.shape, encoded.summary.shape
    (TensorShape([2, 3, 8]), TensorShape([2, 3]), TensorShape([2, 16]))

    Reference: Bahdanau et al. 2015, section 3.2, https://arxiv.org/abs/1409.0473; reading in reverse: Sutskever et al.
    2014, https://arxiv.org/abs/1409.3215
    """

    def __init__(
        self,
        vocabulary,
        units,
        embedding=64,
        depth=1,
        cell="lstm",
        bidirectional=True,
        reverse=False,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_cell(cell)
        check_sizes(vocabulary=vocabulary, units=units, embedding=embedding, depth=depth)
        if reverse and bidirectional:
            raise ValueError("`reverse` requires bidirectional=False. Received: bidirectional=True, reverse=True")
        self.vocabulary, self.units, self.embedding, self.depth = vocabulary, units, embedding, depth
        self.cell, self.bidirectional, self.reverse, self.dropout = cell, bidirectional, reverse, dropout
        dtype = self.dtype_policy
        self.embed = keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embed")
        self.drop = keras.layers.Dropout(dropout, dtype=dtype)
        options = {"return_sequences": True, "return_state": True, "dtype": dtype}
        if reverse and cell != "peephole":
            options["use_cudnn"] = False  # cuDNN requires padding at the end; a reversed source has it at the start
        self.layers = []
        for number in range(depth):
            layer = LAYERS[cell](units, name=f"{cell}_{number}", **options)
            if bidirectional:
                layer = keras.layers.Bidirectional(layer, dtype=dtype, name=f"both_{number}")
            self.layers.append(layer)

    def build(self, source_shape):
        self.embed.build(source_shape)
        features = self.embedding
        for layer in self.layers:
            layer.build((*source_shape, features))
            features = self.units * (2 if self.bidirectional else 1)

    def call(self, source, training=None):
        mask = ops.not_equal(source, 0)
        # cuDNN rejects rows without a valid step.
        read = ops.logical_or(mask, ops.arange(ops.shape(source)[1], dtype="int32") == 0)
        read = ops.flip(read, axis=1) if self.reverse else read
        x = self.embed(ops.flip(source, axis=1) if self.reverse else source)
        for layer in self.layers:
            x, *states = layer(self.drop(x, training=training), mask=read, training=training)
        memory = self.drop(ops.flip(x, axis=1) if self.reverse else x, training=training)
        return Encoded(memory, mask, ops.concatenate(states, axis=-1))

    def compute_output_spec(self, source, training=None):
        features = self.units * (2 if self.bidirectional else 1)
        states = 1 if self.cell == "gru" else 2
        return Encoded(
            keras.KerasTensor((*source.shape, features), dtype=self.compute_dtype),
            keras.KerasTensor(source.shape, dtype="bool"),
            keras.KerasTensor((source.shape[0], states * features), dtype=self.compute_dtype),
        )

    def get_config(self):
        names = ("vocabulary", "units", "embedding", "depth", "cell", "bidirectional", "reverse", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def check_cell(cell):
    """Checks that a cell is one of `LAYERS`.

    Raises:
        ValueError: if it is not; the message lists the valid cells.

    Example:

    >>> check_cell("gru")
    """
    if cell not in LAYERS:
        raise ValueError(f"`cell` must be one of {', '.join(LAYERS)}. Received: {cell!r}")


def check_sizes(**sizes):
    """Checks that sizes are integers of at least 1.

    Raises:
        ValueError: if one is not; the message gives its name.

    Example:

    >>> check_sizes(units=8)
    """
    for name, size in sizes.items():
        require_count(name, size)
