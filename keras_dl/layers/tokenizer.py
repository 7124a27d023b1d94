"""Text as ids and back, in graph."""

import keras
import tensorflow as tf

from keras_dl.ops.special_ids import FIRST, PADDING, UNKNOWN, is_symbol

SPLITS = ("characters", "spaces")


@keras.saving.register_keras_serializable("keras_dl")
class Tokenizer(keras.layers.Layer):
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
        super().__init__(**kwargs)
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}")
        self.vocabulary, self.split = list(vocabulary), split
        self.joint = " " if split == "spaces" else ""
        check_vocabulary(self.vocabulary)
        for entry in self.vocabulary:
            whole = entry.encode().split() == [entry.encode()] if split == "spaces" else len(entry) == 1
            if not whole:
                raise ValueError(f"no text split into {split} gives the entry {entry!r} of `vocabulary`")
        self.table = id_table(self.vocabulary)
        self.supports_jit = False  # XLA knows no strings

    @property
    def size(self):
        """How many ids there are: those of the vocabulary and the four special ones."""
        return FIRST + len(self.vocabulary)

    def __call__(self, text, **kwargs):
        # Texts may come as Python's own, which Keras takes for no tensors.
        text = text if isinstance(text, keras.KerasTensor) else tf.convert_to_tensor(text, tf.string)
        return super().__call__(text, **kwargs)

    def call(self, text):
        ids = self.table.lookup(self.symbols(text))
        return ids if isinstance(ids, tf.Tensor) else ids.to_tensor(PADDING)

    def symbols(self, text):
        """The symbols of texts, known or not.

        Args:
            text: string tensor `[B]` or `[]`.

        Returns:
            Ragged string tensor `[B, None]`, or string tensor `[T]`.
        """
        text = tf.convert_to_tensor(text, tf.string)
        if text.shape.rank not in (0, 1):
            raise ValueError(f"Expected texts of shape [B] or []. Received: shape {text.shape}")
        if self.split == "spaces":
            return tf.strings.split(text)
        return tf.strings.unicode_split(text, "UTF-8", errors="replace")

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

    def unknown(self, text):
        """How many symbols of texts are not in the vocabulary, in graph.

        Args:
            text: string tensor `[B]` or `[]`.

        Returns:
            int32 tensor `[B]` or `[]`.
        """
        return tf.reduce_sum(tf.cast(tf.equal(self(text), UNKNOWN), tf.int32), axis=-1)

    def compute_output_spec(self, text):
        return keras.KerasTensor((*text.shape, None), dtype="int32")

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "split": self.split}


def check_vocabulary(vocabulary):
    """Raises a ValueError unless a list holds at least one text, none empty and none twice.

    Example:

    >>> check_vocabulary(["a", "b", "a"])
    Traceback (most recent call last):
    ValueError: `vocabulary` must hold no entry twice. Received twice: 'a'
    """
    wrong = [entry for entry in vocabulary if not isinstance(entry, str) or not entry]
    if wrong or not vocabulary:
        raise ValueError(f"`vocabulary` must hold at least one entry, and only texts. Received: {wrong or vocabulary}")
    if len(set(vocabulary)) < len(vocabulary):
        twice = sorted({entry for entry in vocabulary if vocabulary.count(entry) > 1})
        raise ValueError(f"`vocabulary` must hold no entry twice. Received twice: {', '.join(map(repr, twice))}")


def id_table(vocabulary):
    """The table in the graph from the entries of a vocabulary to their ids; the id of every other text is 1.

    Example:

    >>> id_table(["a", "b"]).lookup(keras.ops.convert_to_tensor(["b", "c"])).numpy().tolist()
    [5, 1]
    """
    with tf.init_scope():  # it outlives the graph that is perhaps being traced
        ids = tf.range(FIRST, FIRST + len(vocabulary))
        return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(vocabulary, ids), UNKNOWN)
