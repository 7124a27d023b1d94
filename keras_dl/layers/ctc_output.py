"""The output layer of a model trained with CTC."""

import numbers

import keras
from keras import ops

from keras_dl.ops.ctc import beam_search_decode, certain_blank, greedy_decode, minimum_frames


@keras.saving.register_keras_serializable("keras_dl")
class CTCOutput(keras.layers.Layer):
    """Projects each frame to the logits of the labels and the blank.

    `logits = x W + b`, of `len(vocabulary) + 1` classes. A masked frame emits the blank with certainty, so that
    padding changes no loss and no decoding downstream, whatever stands in it, and no lengths have to be carried.

    Args:
        vocabulary: list of str, the labels in order, or an int n for `"0"` to `"n - 1"`. Label i has class i below the
            blank and i + 1 from there on, so that with the default blank the classes are 1, 2, ...
        blank_index: int from 0 to `len(vocabulary)`, the class of the blank. Defaults to 0.
        kernel_initializer: initializer of `W`. Defaults to `"glorot_uniform"`.
        bias_initializer: initializer of `b`. Defaults to `"zeros"`.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        inputs: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, False at padding; Keras' mask of `inputs` by default.

    Output shape:
        `[B, T, len(vocabulary) + 1]`, float32 under mixed precision too. The output carries no mask.

    Raises:
        ValueError: if the vocabulary is empty or holds a label twice, or `blank_index` is out of range.

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
    >>> output.minimum_frames(np.array([[1, 1, 2]])).numpy()     # a blank between the two of "a"
    array([4], dtype=int32)

    Reference: Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf
    """

    def __init__(
        self, vocabulary, blank_index=0, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        labels = range(vocabulary) if isinstance(vocabulary, numbers.Integral) else vocabulary
        self.vocabulary = [str(label) for label in labels]
        self.blank_index = blank_index
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        if not self.vocabulary or len(set(self.vocabulary)) < len(self.vocabulary):
            raise ValueError(f"`vocabulary` must hold at least one label and none twice. Received: {vocabulary}")
        if not 0 <= blank_index <= len(self.vocabulary):
            raise ValueError(f"`blank_index` must be from 0 to {len(self.vocabulary)}. Received: {blank_index}")
        self.supports_masking = True

    def build(self, input_shape):
        classes = len(self.vocabulary) + 1
        self.kernel = self.add_weight(
            shape=(input_shape[-1], classes), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=(classes,), initializer=self.bias_initializer, name="bias")

    def call(self, inputs, mask=None):
        if mask is not None:
            # NaN in padding times its gradient of 0 would be NaN in the gradient of the kernel.
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, 0.0)
        logits = ops.cast(ops.matmul(inputs, self.kernel) + self.bias, "float32")
        return logits if mask is None else certain_blank(logits, mask, self.blank_index)

    def compute_mask(self, inputs, mask=None):
        return None  # every frame is now valid: padding says blank

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self.vocabulary) + 1)

    def compute_output_spec(self, inputs, mask=None):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="float32")

    def decode(self, logits, beam_width=1, **search):
        """The most probable text, in graph. TensorFlow only.

        Args:
            logits: float tensor `[B, T, classes]`, what the layer returned.
            beam_width: int. 1 (default) reads the most probable path; more searches with so wide a beam for the text
                with the most probable paths together.
            **search: `lexicon`, `language_model`, `lm_weight`, `word_bonus` of
                `keras_dl.ops.ctc.beam_search_decode`, which needs a beam. A language model is one of words with a
                lexicon, unless `vocabulary` is given too, else one of the labels.

        Returns:
            `(text, score)`: string `[B]` and float `[B]`, the log probability, with that of the language model.

        Raises:
            ValueError: as `beam_search_decode`, or for its options without a beam.
        """
        if beam_width == 1 and not search:
            tokens, score, *_ = greedy_decode(logits, blank_index=self.blank_index)
            return self.text(tokens), score
        if beam_width == 1:
            raise ValueError(f"A search needs `beam_width` above 1. Received: 1 with {', '.join(search)}")
        if search.get("lexicon") is None:
            search = {"vocabulary": self.vocabulary, **search}
        best = beam_search_decode(logits, beam_width, blank_index=self.blank_index, **search)
        return self.text(best.tokens[:, 0]), best.score[:, 0]

    def text(self, tokens):
        """The labels of classes, joined, in graph. TensorFlow only.

        Args:
            tokens: int tensor `[..., T]` of classes; the blank and negative numbers are no labels.

        Returns:
            string tensor `[...]`.
        """
        import tensorflow as tf

        # One past the end stands for "no token", so that -1 becomes the empty string.
        names = [*self.vocabulary[: self.blank_index], "", *self.vocabulary[self.blank_index :], ""]
        tokens = tf.convert_to_tensor(tokens)
        tokens = tf.where(tokens < 0, len(names) - 1, tokens)
        return tf.strings.reduce_join(tf.gather(tf.constant(names), tokens), axis=-1)

    def minimum_frames(self, labels):
        """How many frames each row needs: one a label, and one for the blank between equal neighbours.

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
