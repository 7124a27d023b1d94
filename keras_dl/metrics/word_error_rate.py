"""Edits of the words in greedy CTC decodings, at corpus level."""

import numbers

import keras
import tensorflow as tf
from keras import ops

from keras_dl.metrics.ctc_ratio import CTCRatio
from keras_dl.ops.ctc import edit_distance


@keras.saving.register_keras_serializable("keras_dl")
class WordErrorRate(CTCRatio):
    """Edits of words needed to turn the greedy CTC decodings into the labels, over the number of words.

    Words are what stands between separators; two separators in a row, or one at the end, make no empty word. Sums are
    kept over all batches, so that the result is that of the whole corpus and not a mean of means. 0 is perfect;
    insertions can push it above 1, and without any word they make it infinite.

    XLA knows no strings: compile a model that has this metric with `jit_compile=False`. Keras' default, `"auto"`,
    chooses XLA on a GPU.

    Args:
        vocabulary: list of str, the labels in order, or an int n for `"0"` to `"n - 1"`, as for
            `keras_dl.layers.CTCOutput`: label i has class i below the blank and i + 1 from there on.
        separator: str, the label between two words. Defaults to `" "`.
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"word_error_rate"`.
        dtype: as for every Keras metric.

    Call arguments:
        y_true: int tensor `[B, L]`, padded with the blank or with negative numbers.
        y_pred: float tensor `[B, T, len(vocabulary) + 1]` of logits. Masked frames say nothing.

    Raises:
        ValueError: if the separator is not in the vocabulary, `blank_index` is out of range, or the logits are of other
            classes.

    Example:

    >>> import numpy as np
    >>> metric = WordErrorRate([" ", "a", "b"])
    >>> metric.update_state(np.array([[2, 1, 3, 2]]), np.eye(4, dtype="float32")[[[2, 1, 3, 3]]])
    >>> float(metric.result())                                   # read "a b" for "a ba"
    0.5
    """

    def __init__(self, vocabulary, separator=" ", blank_index=0, name="word_error_rate", dtype=None):
        super().__init__(blank_index, name=name, dtype=dtype)
        labels = range(vocabulary) if isinstance(vocabulary, numbers.Integral) else vocabulary
        self.vocabulary, self.separator = [str(label) for label in labels], separator
        if not 0 <= blank_index <= len(self.vocabulary):
            raise ValueError(f"`blank_index` must be from 0 to {len(self.vocabulary)}. Received: {blank_index}")
        if separator not in self.vocabulary:
            raise ValueError(f"the separator must be a label of the vocabulary {vocabulary}. Received: {separator!r}")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if y_pred.shape[-1] != len(self.vocabulary) + 1:
            raise ValueError(
                f"expected logits of {len(self.vocabulary)} labels and the blank. Received: shape {y_pred.shape}"
            )
        super().update_state(y_true, y_pred, sample_weight)

    def count(self, tokens, labels):
        tokens, labels = self.words(tokens), self.words(labels)
        return ops.sum(edit_distance(tokens, labels)), tf.size(labels)

    def words(self, tokens):
        """The words of tokens `[B, N]` as a ragged string tensor `[B, None]`."""
        spelled = [" " if label == self.separator else label for label in self.vocabulary]
        # One past the end stands for "no token", so that -1 becomes the empty string.
        names = [*spelled[: self.blank_index], "", *spelled[self.blank_index :], ""]
        tokens = tf.where(tokens < 0, len(names) - 1, tokens)
        return tf.strings.split(tf.strings.reduce_join(tf.gather(tf.constant(names), tokens), axis=-1))

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "separator": self.separator}
