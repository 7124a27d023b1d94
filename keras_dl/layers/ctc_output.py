"""Output layer for models trained with CTC."""

import keras
from keras import ops

from keras_dl.layers.padding import without_padding
from keras_dl.ops.backend import require_tensorflow
from keras_dl.ops.checks import is_integer, require_count
from keras_dl.ops.ctc import beam_search_decode, certain_blank, greedy_decode, minimum_frames
from keras_dl.ops.dense import dense
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class CTCOutput(keras.layers.Layer):
    """Projects each frame to the logits of the labels and the blank.

    `logits = x W + b`, with `len(vocabulary) + 1` classes. A masked frame predicts the blank with certainty. Padding
    therefore has no effect on the loss or the decoding that follows, even if it contains NaN, and no lengths are
    needed.

    Args:
        vocabulary: list of str, the labels in order, or an int n for `"0"` to `"n - 1"`. Label i is class i below the
            blank and class i + 1 above it; with the default blank, the classes are 1, 2, ...
        blank_index: int from 0 to `len(vocabulary)`, class of the blank. Defaults to 0.
        kernel_initializer: initializer for `W`. Defaults to `"glorot_uniform"`.
        bias_initializer: initializer for `b`. Defaults to `"zeros"`.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `inputs`.

    Output shape:
        `[B, T, len(vocabulary) + 1]`, float32 also in half precision. The output has no mask.

    Raises:
        ValueError: if the vocabulary is empty or contains duplicates, or `blank_index` is out of range.

    Example:

    >>> import keras
    >>> output = CTCOutput(["a", "b"])
    >>> logits = output(keras.ops.zeros((1, 4, 8)))
    >>> logits.shape
    TensorShape([1, 4, 3])
    >>> import numpy as np
    >>> text, score = output.decode(np.eye(3, dtype="float32")[[[1, 1, 0, 2]]] * 50)
    >>> text.numpy()[0]
    b'ab'
    >>> output.minimum_frames(np.array([[1, 1, 2]])).numpy()     # with a blank between the two "a"
    array([4], dtype=int32)

    Reference: Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf
    """

    def __init__(
        self, vocabulary, blank_index=0, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        labels = range(vocabulary) if is_integer(vocabulary) else vocabulary
        self.vocabulary = [str(label) for label in labels]
        self.blank_index = require_count("blank_index", blank_index, least=0)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        if not self.vocabulary or len(set(self.vocabulary)) < len(self.vocabulary):
            raise ValueError(f"`vocabulary` must contain at least one label and no duplicates. Received: {vocabulary}")
        if blank_index > len(self.vocabulary):
            raise ValueError(f"`blank_index` must be at most {len(self.vocabulary)}. Received: {blank_index}")
        self.supports_masking = True

    def build(self, input_shape):
        classes = len(self.vocabulary) + 1
        self.kernel = self.add_weight(
            shape=(input_shape[-1], classes), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=(classes,), initializer=self.bias_initializer, name="bias")

    def call(self, inputs, mask=None):
        logits = ops.matmul(without_padding(ops.cast(inputs, self.compute_dtype), mask), self.kernel) + self.bias
        logits = ops.cast(logits, wide(self.compute_dtype))
        return logits if mask is None else certain_blank(logits, mask, self.blank_index)

    def compute_mask(self, inputs, mask=None):
        return None  # padding predicts the blank, so every frame is valid

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self.vocabulary) + 1)

    def compute_output_spec(self, inputs, mask=None):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=wide(self.compute_dtype))

    def decode(self, logits, beam_width=1, **search):
        """Returns the most probable text. TensorFlow only; works in graphs.

        Args:
            logits: float tensor `[B, T, classes]`, the output of the layer.
            beam_width: int. 1 (default) returns the text of the most probable path; larger values search for the text
                with the highest total probability of its paths.
            **search: `lexicon`, `language_model`, `lm_weight`, `word_bonus` of `keras_dl.ops.ctc.beam_search_decode`;
                they require a beam. With a lexicon and without `vocabulary`, the language model is over words,
                otherwise over labels.

        Returns:
            `(text, score)`: string `[B]` and float `[B]`, the log probability, including that of the language model.

        Raises:
            ValueError: as in `beam_search_decode`, or if search options are given without a beam.
        """
        require_tensorflow("CTCOutput.decode")
        if beam_width == 1 and not search:
            tokens, score, *_ = greedy_decode(logits, blank_index=self.blank_index)
            return self.text(tokens), score
        if beam_width == 1:
            raise ValueError(f"A search requires `beam_width` above 1. Received: 1 with {', '.join(search)}")
        if search.get("lexicon") is None:
            search = {"vocabulary": self.vocabulary, **search}
        best = beam_search_decode(logits, beam_width, blank_index=self.blank_index, **search)
        return self.text(best.tokens[:, 0]), best.score[:, 0]

    def text(self, tokens):
        """Joins the labels of classes to texts. TensorFlow only; works in graphs.

        Args:
            tokens: int tensor `[..., T]` of classes, or ragged; the blank and negative numbers are skipped.

        Returns:
            string tensor `[...]`.
        """
        require_tensorflow("CTCOutput.text")
        import tensorflow as tf

        # The last name is for negative tokens: the empty string.
        names = [*self.vocabulary[: self.blank_index], "", *self.vocabulary[self.blank_index :], ""]
        tokens = tf.convert_to_tensor(dense(tokens, -1)[0])
        tokens = tf.where(tokens < 0, len(names) - 1, tokens)
        return tf.strings.reduce_join(tf.gather(tf.constant(names), tokens), axis=-1)

    def minimum_frames(self, labels):
        """Returns the number of frames each row requires: one per label and one per blank between equal neighbors.

        Args:
            labels: int tensor `[B, L]` of classes, padded at the end with the blank or with negative numbers.

        Returns:
            int32 tensor `[B]`.
        """
        return minimum_frames(labels, blank_index=self.blank_index)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "blank_index": self.blank_index,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
