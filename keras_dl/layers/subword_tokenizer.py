"""Conversion of texts to ids of subwords and back."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl.layers.vocabulary_layer import VocabularyLayer
from keras_dl.ops.dense import dense
from keras_dl.ops.special_ids import FIRST, PADDING, UNKNOWN, is_symbol

SPACE = "▁"  # stands for a space, and precedes the first word
UNKNOWN_PENALTY = 10.0  # as in sentencepiece
BYTES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}  # pieces of single bytes, as in sentencepiece


@keras.saving.register_keras_serializable("keras_dl")
class SubwordTokenizer(VocabularyLayer):
    """Converts texts to ids of subwords, using the most probable segmentation, and ids to texts. TensorFlow only.

    Among all segmentations of a text into pieces of the vocabulary, it selects the one with the largest sum of scores,
    by the Viterbi algorithm over characters; sentencepiece gives the same result with the same unigram model. It uses
    only built-in operations, so it works in `tf.data` and is exported to a SavedModel with its vocabulary. Leading,
    trailing and repeated spaces are ignored. Ids are those of `keras_dl.layers.Tokenizer`.

    If the vocabulary contains the pieces of all bytes, `"<0x00>"` to `"<0xFF>"`, a character that no piece covers
    becomes its bytes in UTF-8, as in sentencepiece with byte fallback; these pieces match nothing else.

    Args:
        vocabulary: list of str, the pieces, where `"▁"` stands for a space and for the start of a text.
        scores: list of float, their log probabilities. `keras_dl.data.subwords.learn_subwords` returns both.
        **kwargs: base layer keyword arguments, such as `name`.

    Call arguments:
        text: string tensor `[B]` or `[]`, UTF-8; invalid bytes become U+FFFD.

    Output shape:
        int32 `[B, T]`, padded with 0 to the longest row of the batch, or `[T]`, without start and end ids. Each
        character not covered by a piece is one unknown id; sentencepiece merges adjacent ones.

    Raises:
        ValueError: if there is not one finite score per piece, if there are pieces of some bytes but not all, and as in
            `keras_dl.layers.Tokenizer`.

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
                "`scores` must contain one finite number per entry of `vocabulary`. "
                f"Received: {len(self.scores)} numbers for {len(self.vocabulary)} entries"
            )
        self.of_bytes = _of_bytes(self.vocabulary)
        self.normal = [piece not in BYTES or self.of_bytes is None for piece in self.vocabulary]
        if not any(self.normal):
            raise ValueError("`vocabulary` must contain pieces other than bytes. Received: only bytes")
        self.longest = max(len(piece) for piece, normal in zip(self.vocabulary, self.normal, strict=True) if normal)

    def call(self, text):
        # As in sentencepiece without normalization: "▁" in the text counts as a space only at its end.
        for found, replaced in (("^ +", ""), (" +", SPACE), ("^", SPACE), (f"{SPACE}+$", "")):
            text = tf.strings.regex_replace(text, found, replaced)
        characters = tf.strings.unicode_split(text, "UTF-8", errors="replace")
        if text.shape.rank == 0:
            return self._segment(characters[None], tf.shape(characters))[0]
        return self._segment(characters.to_tensor(""), tf.cast(characters.row_lengths(), tf.int32))

    def _segment(self, characters, lengths):
        """Returns the ids of characters `[B, T]` with row lengths `[B]`."""
        ids = self._pieces(characters)
        chosen = _best_pieces(self._piece_scores(ids))
        ends = tf.transpose(_piece_ends(self.longest - chosen, lengths))
        ids = tf.transpose(tf.gather(ids, chosen, batch_dims=2))
        ids = tf.ragged.boolean_mask(ids, ends)
        if self.of_bytes is not None:
            ids = self._with_bytes(ids, tf.boolean_mask(characters, ends))
        return ids.to_tensor(PADDING)

    def _with_bytes(self, ids, last):
        """Replaces unknown ids of a ragged tensor `[B, None]` with those of bytes; `last` ends each piece."""
        unknown = ids.flat_values == UNKNOWN
        encoded = tf.strings.bytes_split(tf.where(unknown, last, " "))  # one byte in place of a known piece
        sizes = tf.cast(encoded.row_lengths(), tf.int32)
        found = tf.gather(
            self.of_bytes, tf.cast(tf.io.decode_raw(encoded.flat_values, tf.uint8, fixed_length=1)[:, 0], tf.int32)
        )
        values = tf.where(tf.repeat(unknown, sizes), found, tf.repeat(ids.flat_values, sizes))
        return tf.RaggedTensor.from_row_lengths(values, tf.reduce_sum(ids.with_flat_values(sizes), axis=1))

    def _pieces(self, characters):
        """Looks up the ids of pieces of each length, longest first, that end at each character: `[T, B, longest]`."""
        characters = tf.transpose(characters)
        joined, ids = characters, [self._look_up(characters)]
        for _ in range(1, self.longest):
            joined = tf.concat([tf.fill(tf.shape(joined[:1]), ""), joined[:-1]], axis=0) + characters
            ids.append(self._look_up(joined))
        return tf.stack(ids[::-1], axis=-1)

    def _look_up(self, pieces):
        ids = self.table.lookup(pieces)
        if self.of_bytes is None:
            return ids
        return tf.where(tf.gather(tf.constant([True] * FIRST + self.normal), ids), ids, UNKNOWN)

    def _piece_scores(self, ids):
        """Returns the scores of pieces. An unknown character has a low score and is used only where no piece fits."""
        scores = tf.constant([-np.inf] * FIRST + self.scores, tf.float32)
        lowest = min(score for score, normal in zip(self.scores, self.normal, strict=True) if normal)
        lowest = tf.constant(np.float32(lowest) - np.float32(UNKNOWN_PENALTY))
        alone = tf.concat([tf.zeros([self.longest - 1], tf.bool), [True]], axis=0)
        return tf.where((ids == UNKNOWN) & alone, lowest, tf.gather(scores, ids))

    def text(self, ids):
        """Converts ids to texts; works in graphs.

        Args:
            ids: int tensor `[..., T]`, or ragged; numbers below 4, including -1, are skipped.

        Returns:
            string tensor `[...]`.
        """
        ids = tf.convert_to_tensor(dense(ids, PADDING)[0])
        pieces = zip(self.vocabulary, self.normal, strict=True)
        names = tf.constant([b""] * FIRST + [piece.encode() if normal else BYTES[piece] for piece, normal in pieces])
        text = tf.strings.reduce_join(tf.gather(names, tf.where(is_symbol(ids), ids, 0)), axis=-1)
        if self.of_bytes is not None:  # any bytes may follow each other
            text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
        return tf.strings.regex_replace(tf.strings.regex_replace(text, f"^{SPACE}", ""), SPACE, " ")

    def get_config(self):
        return {**super().get_config(), "scores": self.scores}


def _of_bytes(vocabulary):
    """Returns the id of each byte, int array `[256]`, or None if the vocabulary has no pieces of bytes."""
    places = {piece: FIRST + place for place, piece in enumerate(vocabulary)}
    found = [places.get(piece) for piece in BYTES]
    if all(place is None for place in found):
        return None
    if None in found:
        missing = [piece for piece in BYTES if piece not in places]
        raise ValueError(
            f"`vocabulary` must contain the pieces of all 256 bytes or of none. Received: {len(missing)} are missing, "
            f"such as {missing[0]}"
        )
    return np.array(found, "int32")


def _best_pieces(scores):
    """Selects for each character the piece that ends the best segmentation so far, by the Viterbi algorithm.

    Args:
        scores: float tensor `[T, B, longest]` of pieces, longest first.

    Returns:
        int32 tensor `[T, B]`.
    """
    steps, rows, longest = tf.unstack(tf.shape(scores))
    # Best sums before each of the last characters; the sum before the first character is 0.
    before = tf.concat([tf.fill([rows, longest - 1], -np.inf), tf.zeros([rows, 1])], axis=1)

    def step(time, before, chosen):
        sums = before + scores[time]
        chosen = chosen.write(time, tf.argmax(sums, axis=1, output_type=tf.int32))  # the longest if equal
        return time + 1, tf.concat([before[:, 1:], tf.reduce_max(sums, axis=1, keepdims=True)], axis=1), chosen

    chosen = tf.TensorArray(tf.int32, steps, element_shape=[None])
    *_, chosen = tf.while_loop(lambda time, *_: time < steps, step, (0, before, chosen))
    return tf.reshape(chosen.stack(), [steps, rows])


def _piece_ends(taken, lengths):
    """Marks the ends of the pieces of the best segmentation, by backtracking from the end of each row.

    Args:
        taken: int32 tensor `[T, B]`, the length of the piece that ends at each character.
        lengths: int32 tensor `[B]`, the number of characters of each row.

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
