"""Corpus-level word error rate of greedy CTC decodings."""

import keras
import tensorflow as tf
from keras import ops

from keras_dl.metrics.ctc_ratio import CTCRatio
from keras_dl.ops.checks import checked_labels
from keras_dl.ops.ctc import edit_distance


@keras.saving.register_keras_serializable("keras_dl")
class WordErrorRate(CTCRatio):
    """Word edits needed to turn the greedy CTC decodings into the labels, divided by the number of words.

    Words are delimited by separators; repeated and trailing separators create no empty words. Both sums are accumulated
    over all batches, so the result is that of the whole corpus, not a mean of means. 0 is perfect; insertions can raise
    it above 1, and it is infinite if there are insertions but no words.

    TensorFlow only. XLA does not support strings, so compile models that use this metric with `jit_compile=False`.
    Keras' default, `"auto"`, selects XLA on a GPU.

    Args:
        vocabulary: list of str, the labels in order, or an int n for `"0"` to `"n - 1"`, as for
            `keras_dl.layers.CTCOutput`: label i has class i if i is below the blank, else i + 1.
        separator: str, the label between two words. Defaults to `" "`.
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"word_error_rate"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, L]`, padded with the blank or with negative numbers.
        y_pred: float tensor `[B, T, len(vocabulary) + 1]` of logits. Masked frames are ignored.

    Raises:
        ValueError: if the separator is not in the vocabulary, `blank_index` is out of range, or the number of classes
            of the logits is wrong.

    Example:

    >>> import numpy as np
    >>> metric = WordErrorRate([" ", "a", "b"])
    >>> metric.update_state(np.array([[2, 1, 3, 2]]), np.eye(4, dtype="float32")[[[2, 1, 3, 3]]])
    >>> float(metric.result())                                   # decoded "a b", labels "a ba"
    0.5
    """

    def __init__(self, vocabulary, separator=" ", blank_index=0, name="word_error_rate", dtype=None):
        labels = checked_labels(vocabulary, blank_index)
        super().__init__(blank_index, name=name, dtype=dtype)
        self.vocabulary = [str(label) for label in labels]
        self.classes = len(self.vocabulary) + 1
        self.separator = separator
        if separator not in self.vocabulary:
            raise ValueError(f"`separator` must be a label of the vocabulary {vocabulary}. Received: {separator!r}")

    def count(self, tokens, labels):
        tokens, labels = self.words(tokens), self.words(labels)
        return ops.sum(edit_distance(tokens, labels)), tf.size(labels)

    def words(self, tokens):
        """Returns the words of tokens `[B, N]` as a ragged string tensor `[B, None]`."""
        spelled = [" " if label == self.separator else label for label in self.vocabulary]
        # The last entry stands for padding, -1, and is the empty string.
        names = [*spelled[: self.blank_index], "", *spelled[self.blank_index :], ""]
        tokens = tf.where(tokens < 0, len(names) - 1, tokens)
        return tf.strings.split(tf.strings.reduce_join(tf.gather(tf.constant(names), tokens), axis=-1))

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "separator": self.separator}
