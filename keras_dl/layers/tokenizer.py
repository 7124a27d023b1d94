"""Conversion of texts to ids of characters or words and back."""

import keras
import tensorflow as tf

from keras_dl.layers.vocabulary_layer import VocabularyLayer
from keras_dl.ops.dense import dense
from keras_dl.ops.special_ids import FIRST, PADDING, is_symbol

SPLITS = ("characters", "spaces")


@keras.saving.register_keras_serializable("keras_dl")
class Tokenizer(VocabularyLayer):
    """Converts texts to ids of their symbols and ids to texts. TensorFlow only.

    It uses only built-in operations, so it works in `tf.data` and is exported to a SavedModel with its vocabulary. The
    ids are 0 padding, 1 unknown, 2 start, 3 end (`keras_dl.ops.special_ids`), then the vocabulary in order, starting at
    4.

    Args:
        vocabulary: list of str, the symbols.
        split: `"characters"` (default), where each Unicode character is a symbol, or `"spaces"`, where symbols are
            separated by ASCII whitespace.
        **kwargs: base layer keyword arguments, such as `name`.

    Call arguments:
        text: string tensor `[B]` or `[]`, UTF-8. Invalid bytes become U+FFFD if the symbols are characters.

    Output shape:
        int32 `[B, T]`, padded with 0 to the longest row of the batch, or `[T]`, without start and end ids.

    Raises:
        ValueError: if `split` is unknown, or the vocabulary is empty or contains duplicates or an entry that `split`
            cannot produce.

    Example:

    >>> tokenizer = Tokenizer(["a", "b"])
    >>> ids = tokenizer(["ab", "c"])
    >>> ids.numpy().tolist(), tokenizer.text(ids).numpy().tolist(), tokenizer.unknown(["ab", "c"]).numpy().tolist()
    ([[4, 5], [1, 0]], [b'ab', b''], [0, 1])
    """

    def __init__(self, vocabulary, split="characters", **kwargs):
        super().__init__(vocabulary, **kwargs)
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}")
        self.split = split
        self.separator = " " if split == "spaces" else ""
        for entry in self.vocabulary:
            valid = entry.encode().split() == [entry.encode()] if split == "spaces" else len(entry) == 1
            if not valid:
                raise ValueError(
                    f"Each entry of `vocabulary` must be one symbol for split={split!r}. Received: {entry!r}"
                )

    def call(self, text):
        if self.split == "spaces":
            symbols = tf.strings.split(text)
        else:
            symbols = tf.strings.unicode_split(text, "UTF-8", errors="replace")
        ids = self.table.lookup(symbols)
        return ids if isinstance(ids, tf.Tensor) else ids.to_tensor(PADDING)

    def text(self, ids):
        """Converts ids to texts; works in graphs.

        Args:
            ids: int tensor `[..., T]`, or ragged; numbers below 4, including -1, are skipped.

        Returns:
            string tensor `[...]`.
        """
        ids = tf.convert_to_tensor(dense(ids, PADDING)[0])
        names = tf.constant([""] * FIRST + [self.separator + entry for entry in self.vocabulary])
        texts = tf.strings.reduce_join(tf.gather(names, tf.where(is_symbol(ids), ids, 0)), axis=-1)
        return tf.strings.strip(texts) if self.separator else texts

    def get_config(self):
        return {**super().get_config(), "split": self.split}
