"""Prefix beam search with shallow fusion of a lexicon and a language model.

    score = log p_ctc + lm_weight * log p_lm + word_bonus * words

Reference: Gulcehre et al. 2015, "On using monolingual corpora in neural machine translation", section 4.1,
https://arxiv.org/abs/1503.03535
"""

import math
import numbers
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dl.ops.ctc.lexicon import Lexicon
from keras_dl.ops.ctc.log_space import LOG_ZERO
from keras_dl.ops.ctc.prefix_beam import PrefixBeam, log_softmax
from keras_dl.ops.ngram import NGram
from keras_dl.ops.ngram.model import UNKNOWN


class Fusion(NamedTuple):
    """The lexicon and language model of a beam search.

    Example:

    >>> Fusion(Lexicon(["ab"], ["a", "b"], separator=None), None, None, 0.5, 0.0).lexicon.words
    ['ab']
    """

    lexicon: Lexicon | None
    language_model: NGram | None
    vocabulary: tuple | None  # the labels, for a language model over labels; None for one over words
    lm_weight: tf.Tensor  # float []
    word_bonus: tf.Tensor  # float []


def checked_fusion(classes, blank_index, lexicon, language_model, vocabulary, lm_weight, word_bonus):
    """Returns a `Fusion` of the arguments of `beam_search_decode`, or None if they have no effect.

    Raises:
        ValueError: if an argument has the wrong type, does not match the classes, or is not finite.

    Example:

    >>> lexicon = Lexicon(["ab"], ["a", "b"], separator=None)
    >>> checked_fusion(4, 0, lexicon, None, None, 0.5, 0.0)
    Traceback (most recent call last):
        ...
    ValueError: The lexicon must have 4 classes, like the logits, and blank 0. Received: 3 classes, blank 0
    """
    for name, value, kind in (("lexicon", lexicon, Lexicon), ("language_model", language_model, NGram)):
        if not isinstance(value, kind | None):
            raise ValueError(f"`{name}` must be an instance of `{kind.__name__}` or None. Received: {value!r}")
    for name, value in (("lm_weight", lm_weight), ("word_bonus", word_bonus)):
        if isinstance(value, numbers.Real) and not math.isfinite(value):
            raise ValueError(f"`{name}` must be finite. Received: {value}")
    if vocabulary is not None and len(vocabulary) != classes - 1:
        raise ValueError(f"`vocabulary` must contain {classes - 1} labels. Received: {len(vocabulary)}")
    no_bonus = isinstance(word_bonus, numbers.Real) and word_bonus == 0  # the value of a tensor is not known
    if lexicon is None and language_model is None and no_bonus:
        return None
    if lexicon is not None and (lexicon.blank_index, lexicon.next_node.shape[1]) != (blank_index, classes):
        raise ValueError(
            f"The lexicon must have {classes} classes, like the logits, and blank {blank_index}. "
            f"Received: {lexicon.next_node.shape[1]} classes, blank {lexicon.blank_index}"
        )
    if language_model is not None and lexicon is None and vocabulary is None:
        raise ValueError("A language model requires a `lexicon` or a `vocabulary`. Received: neither")
    vocabulary = None if vocabulary is None else tuple(vocabulary)
    lm_weight, word_bonus = tf.convert_to_tensor(lm_weight, tf.float32), tf.convert_to_tensor(word_bonus, tf.float32)
    return Fusion(lexicon, language_model, vocabulary, lm_weight, word_bonus)


def beam_of(width, classes, blank_index, fusion):
    """Returns the `PrefixBeam` for a `Fusion` or None.

    Example:

    >>> type(beam_of(2, 3, 0, None)).__name__
    'PrefixBeam'
    """
    return FusedBeam(width, classes, blank_index, fusion) if fusion else PrefixBeam(width, classes, blank_index)


class Context(NamedTuple):
    """The state of each prefix in the lexicon and the language model; tensors `[B, W]`.

    Example:

    >>> fusion = Fusion(Lexicon(["ab"], ["a", "b"], separator=None), None, None, 0.5, 0.0)
    >>> FusedBeam(2, 3, 0, fusion).start(1, tf.float32).context.node.numpy()
    array([[0, 0]], dtype=int32)
    """

    reward: tf.Tensor  # float, the score without log p_ctc
    node: tf.Tensor  # int32, the node in the lexicon
    state: tf.Tensor  # int32, the state of the language model


class FusedBeam(PrefixBeam):
    """A `PrefixBeam` that ranks prefixes by score and drops those that the lexicon cannot complete.

    The best tokens differ between prefixes, so every prefix tries every action. An action extends the prefix by a
    class. Without a separator, there are V more actions, which end the word and start the next one with a class; a
    prefix that can be split into words in two ways is then in the beam twice.

    Args:
        width, classes, blank_index: as for `PrefixBeam`.
        fusion: `Fusion`.

    Raises:
        ValueError: if the language model contains none of the labels or words.

    Example:

    >>> fusion = Fusion(Lexicon(["ab"], ["a", "b"], separator=None), None, None, 0.5, 0.0)
    >>> beams = FusedBeam(2, 3, 0, fusion)
    >>> frames = beams.frames(np.log([[[0.3, 0.1, 0.6]]]))
    >>> beam, source, action = beams.step(beams.start(1, tf.float64), [of_all[0] for of_all in frames])
    >>> action.numpy().tolist(), np.exp(beams.finish(beam)[0]).round(2).tolist()       # no word starts with b
    ([[-1, 1]], [[0.3, 0.1]])
    """

    def __init__(self, width, classes, blank_index, fusion):
        super().__init__(width, classes, blank_index)
        self.lexicon, self.model, vocabulary, self.weight, self.bonus = fusion
        self.separated = self.lexicon is None or self.lexicon.separator_class is not None
        self.actions = classes if self.separated else 2 * classes
        grown = np.indices((width, self.actions)).reshape(2, -1)
        self._source, self._column = np.pad(grown, [[0, 0], [width, 1]]).astype(np.int32)
        self._source[:width] = np.arange(width)
        self._label_ids = self._word_ids = None
        if self.model and vocabulary:
            ids = self._ids("labels", vocabulary)
            self._label_ids = np.concatenate([ids[:blank_index], [0], ids[blank_index:]]).astype(np.int32)
        elif self.model:
            self._word_ids = self._ids("words of the lexicon", self.lexicon.words)

    def _ids(self, kind, words):
        ids = self.model.ids(words)
        if words and (ids == self.model.ids([UNKNOWN])).all():
            raise ValueError(
                f"The language model contains none of the {kind}. Received: {list(words[:5])}, and a model of "
                f"{self.model.vocabulary[:8]}"
            )
        return ids

    def start(self, batch, dtype):
        shape = [batch, self.width]
        state = self.model.initial_state if self.model else 0
        context = Context(tf.zeros(shape, dtype), tf.zeros(shape, tf.int32), tf.fill(shape, state))
        return super().start(batch, dtype)._replace(context=context)

    def frames(self, logits):
        return [log_softmax(logits)]

    def _token_of(self, action):
        return tf.where(action < self.classes, action, action - self.classes)

    def _actions_of(self, token):
        return [token] if self.separated else [token, tf.where(token < 0, -1, token + self.classes)]

    def _grow(self, frame, total):
        logp = frame[0] if self.separated else tf.concat([frame[0]] * 2, axis=1)
        return tf.reshape(total[:, :, None] + logp[:, None], [-1, self.width * self.actions])

    def _place(self, frame, action, source):
        return tf.where(action < 0, len(self._source) - 1, self.width + source * self.actions + action)

    def _action(self, frame, pick):
        return tf.gather(self._column, pick)

    def _rewards(self, context):
        """Returns the rewards of all candidates."""
        added = self._of_tokens(context)
        if self.lexicon is not None:
            ends, _ = self._of_word(context)
            continues = tf.gather(self.lexicon.next_node, context.node) >= 0
            if self.separated:
                at_end = ends[:, :, None]
                is_separator = tf.range(self.classes) == self.lexicon.separator_class
                added += tf.where(is_separator, at_end, tf.where(continues, tf.zeros_like(at_end), LOG_ZERO))
            else:
                begins = self.lexicon.next_node[0] >= 0
                continues = tf.where(continues, tf.zeros_like(ends)[:, :, None], LOG_ZERO)
                begins = tf.where(begins, ends[:, :, None], LOG_ZERO)
                added = tf.concat([added + continues, added + begins], axis=2)
        grown = tf.reshape(context.reward[:, :, None] + added, [-1, self.width * self.actions])
        return tf.concat([context.reward, grown, tf.zeros_like(grown[:, :1])], axis=1)

    def _of_tokens(self, context):
        """Returns what each class adds to the scores, without the lexicon: `[B, W, V]`, or `[V]`."""
        dtype = context.reward.dtype
        bonus = tf.zeros([], dtype) if self.lexicon is not None else tf.cast(self.bonus, dtype)
        added = tf.where(tf.range(self.classes) == self.blank_index, tf.cast(LOG_ZERO, dtype), bonus)
        if self._label_ids is None:
            return added
        log_probability, _ = self.model.step(context.state[:, :, None], self._label_ids)
        return added + tf.cast(self.weight, dtype) * tf.cast(log_probability, dtype)

    def _of_word(self, context):
        """Returns what ending the word adds to each score, `LOG_ZERO` where no word ends, and the state after it."""
        dtype = context.reward.dtype
        word = tf.gather(self.lexicon.word_at, context.node)
        reward, state = tf.cast(self.bonus, dtype), context.state
        if self._word_ids is not None:
            log_probability, state = self.model.step(state, tf.gather(self._word_ids, tf.maximum(word, 0)))
            reward += tf.cast(self.weight, dtype) * tf.cast(log_probability, dtype)
        return tf.where(word < 0, tf.cast(LOG_ZERO, dtype), reward), tf.where(word < 0, context.state, state)

    def _advance(self, context, source, action, rewards, pick):
        reward = tf.maximum(tf.gather(rewards, pick, batch_dims=1), LOG_ZERO)
        node, state = (tf.gather(tensor, source, batch_dims=1) for tensor in context[1:])
        token, stays = tf.maximum(self._token_of(action), 0), action < 0
        if self.lexicon is not None:
            ends = action == self.lexicon.separator_class if self.separated else action >= self.classes
            following = tf.gather_nd(
                self.lexicon.next_node, tf.stack([node if self.separated else tf.where(ends, 0, node), token], -1)
            )
            following = tf.maximum(following, 0)  # the separator leads back to the root
            if self._word_ids is not None:
                state = tf.where(ends, tf.gather(self._of_word(context)[1], source, batch_dims=1), state)
            node = tf.where(stays, node, following)
        if self._label_ids is not None:
            state = tf.where(stays, state, self.model.step(state, tf.gather(self._label_ids, token))[1])
        return Context(reward, node, state)

    def _final_score(self, log_probability, context):
        score, state, low = log_probability + context.reward, context.state, tf.cast(LOG_ZERO, log_probability.dtype)
        if self.lexicon is None:
            return score + self._of_end(state, score.dtype)
        ends, behind = self._of_word(context)
        ends = tf.where(context.node == 0, tf.zeros_like(ends), ends)
        whole = score + ends + self._of_end(behind, score.dtype)
        some = tf.reduce_any(whole > low / 2, axis=1, keepdims=True)
        return tf.where(some, whole, score + self._of_end(state, score.dtype))

    def _of_end(self, state, dtype):
        if self.model is None:
            return tf.zeros([], dtype)
        return tf.cast(self.weight, dtype) * tf.cast(self.model.finish(state), dtype)
