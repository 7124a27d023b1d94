"""What every layer does that makes ids of texts."""

import keras
import tensorflow as tf

from keras_dl.ops.special_ids import FIRST, UNKNOWN


class VocabularyLayer(keras.layers.Layer):
    """Texts as ids of a vocabulary, after the four of `keras_dl.ops.special_ids`. TensorFlow only.

    A subclass writes `call(text)`, string `[B]` or `[]` -> int32 `[B, T]` or `[T]`.

    Args:
        vocabulary: list of str.
        **kwargs: `name`, as for every layer.

    Raises:
        ValueError: if the vocabulary is no list, or empty, or an entry is no text, is empty, or comes twice.

    Example:

    >>> layer = VocabularyLayer(["a", "b"])
    >>> layer.size, layer.table.lookup(tf.constant(["b", "c"])).numpy().tolist()
    (6, [5, 1])
    """

    def __init__(self, vocabulary, **kwargs):
        super().__init__(**kwargs)
        if isinstance(vocabulary, (str, bytes)) or not hasattr(vocabulary, "__iter__"):
            raise ValueError(f"`vocabulary` must be a list of texts. Received: {vocabulary!r}")
        self.vocabulary = list(vocabulary)
        wrong = [entry for entry in self.vocabulary if not isinstance(entry, str) or not entry]
        if wrong or not self.vocabulary:
            raise ValueError(
                f"`vocabulary` must hold at least one entry, and only texts. Received: {wrong or self.vocabulary}"
            )
        if len(set(self.vocabulary)) < len(self.vocabulary):
            twice = sorted({entry for entry in self.vocabulary if self.vocabulary.count(entry) > 1})
            raise ValueError(f"`vocabulary` must hold no entry twice. Received twice: {', '.join(map(repr, twice))}")
        with tf.init_scope():  # the table outlives the graph that is perhaps being traced
            ids = tf.range(FIRST, self.size)
            initializer = tf.lookup.KeyValueTensorInitializer(self.vocabulary, ids)
            self.table = tf.lookup.StaticHashTable(initializer, UNKNOWN)
        self.supports_jit = False  # XLA knows no strings

    @property
    def size(self):
        """How many ids there are: those of the vocabulary and the four special ones."""
        return FIRST + len(self.vocabulary)

    def __call__(self, text, **kwargs):
        # Texts may come as Python's own, which Keras takes for no tensors.
        if not isinstance(text, keras.KerasTensor):
            text = tf.convert_to_tensor(text, tf.string)
        if len(text.shape) > 1:
            raise ValueError(f"Expected texts of shape [B] or []. Received: shape {text.shape}")
        return super().__call__(text, **kwargs)

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
        return {**super().get_config(), "vocabulary": self.vocabulary}
