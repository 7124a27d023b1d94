"""Text as ids of subwords and back, in graph."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl.layers.vocabulary_layer import VocabularyLayer
from keras_dl.ops.special_ids import FIRST, PADDING, UNKNOWN, is_symbol

BLANK = "▁"  # stands for a blank, and before the first word
UNKNOWN_PENALTY = 10.0  # sentencepiece's


@keras.saving.register_keras_serializable("keras_dl")
class SubwordTokenizer(VocabularyLayer):
    """The most probable segmentation of texts into subwords, as ids, and ids as texts. TensorFlow only.

    Of all ways to cut a text into pieces of the vocabulary the one whose scores have the largest sum, by Viterbi's
    algorithm over its characters: what the library sentencepiece finds with the same unigram model. In stock
    operations, so that it works in `tf.data` and goes into a SavedModel with its vocabulary. Blanks at the ends and
    blanks after blanks count for nothing. Ids as for `keras_dl.layers.Tokenizer`.

    Args:
        vocabulary: list of str, the pieces; `"▁"` in them stands for a blank, and the beginning of a text.
        scores: list of float, their log probabilities. `keras_dl.data.subwords.learn_subwords` gives both.
        **kwargs: `name`, as for every layer.

    Call arguments:
        text: string tensor `[B]` or `[]`, UTF-8; bytes that are none become U+FFFD.

    Output shape:
        int32 `[B, T]`, padded with 0 to the longest of the batch, or `[T]`. No start and no end is added. Each
        character of which no piece is made is unknown; sentencepiece makes one unknown piece of neighbours.

    Raises:
        ValueError: if there is not a finite score for each piece, or as for `keras_dl.layers.Tokenizer`.

    Example:

    >>> tokenizer = SubwordTokenizer(["▁", "a", "b", "ab", "▁ab"], [-3.0, -2.0, -2.0, -2.5, -4.0])
    >>> ids = tokenizer(["ab  abb", "ax"])
    >>> ids.numpy().tolist(), tokenizer.text(ids).numpy().tolist()
    ([[8, 8, 6], [4, 5, 1]], [b'ab abb', b'a'])

    Reference: Kudo 2018, "Subword regularization: improving neural network translation models with multiple subword
    candidates", section 3.2, https://arxiv.org/abs/1804.10959
    """

    def __init__(self, vocabulary, scores, **kwargs):
        super().__init__(vocabulary, **kwargs)
        try:
            self.scores = [float(score) for score in scores]
        except (TypeError, ValueError) as error:
            raise ValueError(f"`scores` must be a list of numbers. Received: {scores!r:.60}") from error
        if len(self.scores) != len(self.vocabulary) or not np.isfinite(self.scores).all():
            raise ValueError(
                f"`scores` must hold a finite number for each of the {len(self.vocabulary)} entries of `vocabulary`. "
                f"Received: {len(self.scores)} numbers"
            )
        self.longest = max(map(len, self.vocabulary))

    def call(self, text):
        # As sentencepiece does without normalization: a "▁" in the text is no blank but at its end.
        for found, replaced in (("^ +", ""), (" +", BLANK), ("^", BLANK), (f"{BLANK}+$", "")):
            text = tf.strings.regex_replace(text, found, replaced)
        characters = tf.strings.unicode_split(text, "UTF-8", errors="replace")
        if text.shape.rank == 0:
            return self._segment(characters[None], tf.shape(characters))[0]
        return self._segment(characters.to_tensor(""), tf.cast(characters.row_lengths(), tf.int32))

    def _segment(self, characters, lengths):
        """The ids of characters `[B, T]`, of which each row has so many `[B]`."""
        ids = self._pieces(characters)
        chosen = _best_pieces(self._piece_scores(ids))
        ends = _piece_ends(self.longest - chosen, lengths)
        ids = tf.transpose(tf.gather(ids, chosen, batch_dims=2))
        return tf.ragged.boolean_mask(ids, tf.transpose(ends)).to_tensor(PADDING)

    def _pieces(self, characters):
        """The ids of what ends at each character, of every length, the longest first: `[T, B, longest]`."""
        characters = tf.transpose(characters)
        joined, ids = characters, [self.table.lookup(characters)]
        for _ in range(1, self.longest):
            joined = tf.concat([tf.fill(tf.shape(joined[:1]), ""), joined[:-1]], axis=0) + characters
            ids.append(self.table.lookup(joined))
        return tf.stack(ids[::-1], axis=-1)

    def _piece_scores(self, ids):
        """Their scores; a single character that is no piece may stand alone, where nothing else can."""
        of_ids = tf.constant([-np.inf] * FIRST + self.scores, tf.float32)
        lowest = tf.constant(np.float32(min(self.scores)) - np.float32(UNKNOWN_PENALTY))
        alone = tf.concat([tf.zeros([self.longest - 1], tf.bool), [True]], axis=0)
        return tf.where((ids == UNKNOWN) & alone, lowest, tf.gather(of_ids, ids))

    def text(self, ids):
        """The texts of ids, in graph.

        Args:
            ids: int tensor `[..., T]`; numbers below 4, -1 too, are nothing.

        Returns:
            string tensor `[...]`.
        """
        ids = tf.convert_to_tensor(ids)
        names = tf.constant([""] * FIRST + self.vocabulary)
        text = tf.strings.reduce_join(tf.gather(names, tf.where(is_symbol(ids), ids, 0)), axis=-1)
        return tf.strings.regex_replace(tf.strings.regex_replace(text, f"^{BLANK}", ""), BLANK, " ")

    def get_config(self):
        return {**super().get_config(), "scores": self.scores}


def _best_pieces(scores):
    """Viterbi: which of the pieces that end at each character ends the best segmentation so far.

    Args:
        scores: float tensor `[T, B, longest]` of pieces, the longest first.

    Returns:
        int32 tensor `[T, B]`.
    """
    steps, rows, longest = tf.unstack(tf.shape(scores))
    # The best sums before each of the last characters; before the first one there is nothing, of score 0.
    before = tf.concat([tf.fill([rows, longest - 1], -np.inf), tf.zeros([rows, 1])], axis=1)

    def step(time, before, chosen):
        sums = before + scores[time]
        chosen = chosen.write(time, tf.argmax(sums, axis=1, output_type=tf.int32))  # the longest of equal ones
        return time + 1, tf.concat([before[:, 1:], tf.reduce_max(sums, axis=1, keepdims=True)], axis=1), chosen

    chosen = tf.TensorArray(tf.int32, steps, element_shape=[None])
    *_, chosen = tf.while_loop(lambda time, *_: time < steps, step, (0, before, chosen))
    return tf.reshape(chosen.stack(), [steps, rows])


def _piece_ends(taken, lengths):
    """Where the pieces of the best segmentation end, found from the end of each row.

    Args:
        taken: int32 tensor `[T, B]`, the length of the piece that ends at each character.
        lengths: int32 tensor `[B]`, the characters of each row.

    Returns:
        bool tensor `[T, B]`.
    """
    steps = tf.shape(taken)[0]

    def step(time, end, ends):
        here = end == time + 1
        return time - 1, tf.where(here, end - taken[time], end), ends.write(time, here)

    ends = tf.TensorArray(tf.bool, steps, element_shape=[None])
    *_, ends = tf.while_loop(lambda time, *_: time >= 0, step, (steps - 1, lengths, ends))
    return tf.reshape(ends.stack(), tf.shape(taken))
