"""Text as ids and back, in graph."""

import keras
import tensorflow as tf

from keras_dl.layers.vocabulary_layer import VocabularyLayer
from keras_dl.ops.special_ids import FIRST, PADDING, is_symbol

SPLITS = ("characters", "spaces")


@keras.saving.register_keras_serializable("keras_dl")
class Tokenizer(VocabularyLayer):
    """The symbols of texts as ids, and ids as texts. TensorFlow only.

    In stock operations, so that it works in `tf.data` and goes into a SavedModel with its vocabulary. The ids are
    0 padding, 1 unknown, 2 start, 3 end (`keras_dl.ops.special_ids`), and from 4 on the vocabulary in its order.

    Args:
        vocabulary: list of str, the symbols.
        split: `"characters"` (default): each Unicode character is a symbol; `"spaces"`: what stands between blanks,
            tabs and ends of lines (ASCII's).
        **kwargs: `name`, as for every layer.

    Call arguments:
        text: string tensor `[B]` or `[]`, UTF-8. Bytes that are none become U+FFFD, if characters are the symbols.

    Output shape:
        int32 `[B, T]`, padded with 0 to the longest of the batch, or `[T]`. No start and no end is added.

    Raises:
        ValueError: for another `split`, an empty vocabulary, an entry twice, or one that `split` cannot give.

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
        self.joint = " " if split == "spaces" else ""
        for entry in self.vocabulary:
            whole = entry.encode().split() == [entry.encode()] if split == "spaces" else len(entry) == 1
            if not whole:
                raise ValueError(f"no text split into {split} gives the entry {entry!r} of `vocabulary`")

    def call(self, text):
        if self.split == "spaces":
            symbols = tf.strings.split(text)
        else:
            symbols = tf.strings.unicode_split(text, "UTF-8", errors="replace")
        ids = self.table.lookup(symbols)
        return ids if isinstance(ids, tf.Tensor) else ids.to_tensor(PADDING)

    def text(self, ids):
        """The texts of ids, in graph.

        Args:
            ids: int tensor `[..., T]`; numbers below 4, -1 too, are nothing.

        Returns:
            string tensor `[...]`.
        """
        ids = tf.convert_to_tensor(ids)
        names = tf.constant([""] * FIRST + [self.joint + entry for entry in self.vocabulary])
        texts = tf.strings.reduce_join(tf.gather(names, tf.where(is_symbol(ids), ids, 0)), axis=-1)
        return tf.strings.strip(texts) if self.joint else texts

    def get_config(self):
        return {**super().get_config(), "split": self.split}
