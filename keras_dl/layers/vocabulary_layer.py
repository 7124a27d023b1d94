"""Base class of the layers that convert texts to ids."""

import keras
import tensorflow as tf

from keras_dl.ops.backend import require_tensorflow
from keras_dl.ops.special_ids import FIRST, UNKNOWN


class VocabularyLayer(keras.layers.Layer):
    """Base class of layers that convert texts to ids of a vocabulary. TensorFlow only.

    The vocabulary follows the four `keras_dl.ops.special_ids`. Subclasses implement `call(text)`, string `[B]` or `[]`
    -> int32 `[B, T]` or `[T]`.

    Args:
        vocabulary: list of str.
        **kwargs: base layer keyword arguments, such as `name`.

    Raises:
        ValueError: if the vocabulary is not a list or is empty, or an entry is not a string, is empty or is a
            duplicate.

    Example:

    >>> layer = VocabularyLayer(["a", "b"])
    >>> layer.size, layer.table.lookup(tf.constant(["b", "c"])).numpy().tolist()
    (6, [5, 1])
    """

    def __init__(self, vocabulary, **kwargs):
        require_tensorflow(type(self).__name__)
        super().__init__(**kwargs)
        if isinstance(vocabulary, (str, bytes)) or not hasattr(vocabulary, "__iter__"):
            raise ValueError(f"`vocabulary` must be a list of strings. Received: {vocabulary!r}")
        self.vocabulary = list(vocabulary)
        wrong = [entry for entry in self.vocabulary if not isinstance(entry, str) or not entry]
        if wrong or not self.vocabulary:
            raise ValueError(
                f"`vocabulary` must contain at least one entry and only non-empty strings. Received: "
                f"{wrong or self.vocabulary}"
            )
        if len(set(self.vocabulary)) < len(self.vocabulary):
            duplicates = sorted({entry for entry in self.vocabulary if self.vocabulary.count(entry) > 1})
            raise ValueError(f"`vocabulary` must not contain duplicates. Received: {', '.join(map(repr, duplicates))}")
        with tf.init_scope():  # the table must outlive a graph that is being traced
            ids = tf.range(FIRST, self.size)
            initializer = tf.lookup.KeyValueTensorInitializer(self.vocabulary, ids)
            self.table = tf.lookup.StaticHashTable(initializer, UNKNOWN)
        self.supports_jit = False  # XLA does not support strings

    @property
    def size(self):
        """Number of ids: the vocabulary and the four special ids."""
        return FIRST + len(self.vocabulary)

    def __call__(self, text, **kwargs):
        # Keras does not convert Python strings to tensors.
        if not isinstance(text, keras.KerasTensor):
            text = tf.convert_to_tensor(text, tf.string)
        if len(text.shape) > 1:
            raise ValueError(f"Expected texts of shape [B] or []. Received: shape {text.shape}")
        return super().__call__(text, **kwargs)

    def unknown(self, text):
        """Counts the symbols of texts that are not in the vocabulary; works in graphs.

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
