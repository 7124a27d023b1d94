"""One step of a prefix beam search: each prefix stays or is extended by a token, and the best prefixes are kept."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dl.ops.checks import require_count
from keras_dl.ops.ctc.log_space import LOG_ZERO, NEGLIGIBLE, log_add


class Beam(NamedTuple):
    """The W prefixes of each sequence, best first; tensors `[B, W]` unless noted otherwise.

    A prefix is identified by a 63-bit hash of its parent's hash and its last action, so a prefix that leaves the beam
    and returns is recognized as the parent of its extensions.

    Example:

    >>> beam = PrefixBeam(width=2, classes=3, blank_index=0).start(1, tf.float32)
    >>> beam.blank.numpy().tolist()[0][0], beam.last.numpy().tolist()        # the empty prefix, probability one
    (0.0, [[-1, -1]])
    """

    blank: tf.Tensor  # float, log probability of the paths that end in a blank, without `scale`
    token: tf.Tensor  # float, log probability of those that end in the last token, without `scale`
    parent: tf.Tensor  # int64, hash of the prefix without its last action; negative if it is empty
    last: tf.Tensor  # int32, the last action: a class, or an action of `FusedBeam`; -1 if there is none
    scale: tf.Tensor  # float64 [B], subtracted from the log probabilities to keep the best near 0
    context: tuple = ()  # the state of each prefix in a `FusedBeam`


class PrefixBeam:
    """The step of a prefix beam search.

    The textbook algorithm extends every prefix by every class. Here, the prefix at place r is extended only by the
    `W // (r + 1) + 1` best tokens. With prefixes and tokens in decreasing order, candidate (r, q) is at most as good as
    the `(r + 1) (q + 1)` candidates that precede it in both orders. At most one of these per prefix does not count,
    because it repeats the last token. So the best W candidates are always among those considered.

    Args:
        width: int, the number W of prefixes that are kept.
        classes: int, the number V of classes.
        blank_index: int, the class of the blank.

    Raises:
        ValueError: if an argument is not an integer or out of range.

    Example:

    >>> beams = PrefixBeam(width=2, classes=3, blank_index=0)
    >>> frames = beams.frames(np.log([[[0.3, 0.1, 0.6]]]))
    >>> beam, source, action = beams.step(beams.start(1, tf.float64), [of_all[0] for of_all in frames])
    >>> action.numpy().tolist(), np.exp(beams.finish(beam)[0]).round(2).tolist()       # token 2, or empty
    ([[2, -1]], [[0.6, 0.3]])
    """

    def __init__(self, width, classes, blank_index):
        self.width = width = require_count("beam_width", width, 1)
        self.classes = classes = require_count("classes", classes, 1)
        self.blank_index = require_count("blank_index", blank_index, 0, classes - 1)
        self.actions = classes
        self.ranks = max(1, min(classes - 1, width + 1))  # tokens of a frame that are considered
        # The number of prefixes extended by the token of each rank; the last rank stands for all other classes.
        height = [width, *(width // rank for rank in range(1, self.ranks)), 0]
        self._height = np.array(height, np.int32)
        # Candidates: W unchanged prefixes, then the extensions, rank by rank, then an unused place for discarded
        # writes.
        self._first = (width + np.cumsum(height) - height).astype(np.int32)
        self._grown = np.stack([np.concatenate([*map(np.arange, height)]), np.repeat(np.arange(len(height)), height)])
        self._source, self._column = np.pad(self._grown, [[0, 0], [width, 1]]).astype(np.int32)
        self._source[:width] = np.arange(width)

    def start(self, batch, dtype):
        """Returns the beam with the empty prefix."""
        shape, low = [batch, self.width], tf.constant(LOG_ZERO, dtype)
        return Beam(
            blank=tf.one_hot(tf.zeros([batch], tf.int32), self.width, tf.zeros([], dtype), low),
            token=tf.fill(shape, low),
            parent=tf.broadcast_to(self._no_parent(), shape),
            last=tf.fill(shape, -1),
            scale=tf.zeros([batch], tf.float64),
        )

    def frames(self, logits):
        """Returns the inputs of `step` for logits `[B, T, V]`: tensors, time first, log probabilities at index 0."""
        logp = log_softmax(logits)
        is_blank = tf.range(self.classes) == self.blank_index
        best, tokens = tf.math.top_k(tf.where(is_blank, tf.cast(2 * LOG_ZERO, logp.dtype), logp), self.ranks)
        shape = tf.shape(logp)
        rows = tf.reshape(tf.range(shape[0] * shape[1]) * self.classes, [shape[0], shape[1], 1])
        behind = tf.broadcast_to(tf.range(self.ranks) - self.ranks, tf.shape(tokens))
        rank = tf.scatter_nd(
            tf.reshape(rows + tokens, [-1, 1]), tf.reshape(behind, [-1]), tf.reduce_prod(shape, keepdims=True)
        )
        return [logp, best, tokens, tf.reshape(rank, shape) + self.ranks]

    def step(self, beam, frame, live=None):
        """Advances the beam by one frame.

        Args:
            beam: `Beam`.
            frame: list of tensors, slices of the result of `frames`.
            live: bool tensor `[B]`, False for rows without this frame, whose beam does not change; None (default) for
                all True.

        Returns:
            `(beam, source, action)`: int32 `[B, W]`: the previous place of each prefix or its parent, and the action
            that extended it, or -1 if it is unchanged.
        """
        logp, places = frame[0], tf.range(self.width)
        low = tf.cast(LOG_ZERO, logp.dtype)
        total, hashes = log_add(beam.blank, beam.token), _hash(beam.parent, beam.last)
        token = self._token_of(beam.last)
        of_token = tf.where(token >= 0, tf.gather(logp, tf.maximum(token, 0), batch_dims=1), low)

        # If the parent of a prefix is also in the beam, its extension to that prefix is added to it, not a new
        # candidate.
        is_parent = beam.parent[:, None] == hashes[:, :, None]
        parent = tf.reduce_max(tf.where(is_parent, places[:, None], -1), axis=1)
        known, parent = parent >= 0, tf.maximum(parent, 0)
        repeats = tf.gather(token, parent, batch_dims=1) == token
        either = tf.concat([total, beam.blank], axis=1)
        of_parent = tf.gather(either, tf.where(repeats, parent + self.width, parent), batch_dims=1)
        by_token = tf.where(known, log_add(beam.token, of_parent), beam.token) + of_token
        by_blank = total + logp[:, self.blank_index, None]
        repeated = beam.blank + of_token
        if live is not None:
            live = live[:, None]
            by_blank, by_token = tf.where(live, by_blank, beam.blank), tf.where(live, by_token, beam.token)
            total, repeated = tf.where(live, total, low), tf.where(live, repeated, low)

        nothing = tf.fill(tf.shape(total), low)
        candidates = tf.concat([log_add(by_blank, by_token), self._grow(frame, total), nothing[:, :1]], axis=1)
        # Repeating the last token requires a blank in between, and a prefix already in the beam is not a candidate.
        repeating = [self._place(frame, action, places) for action in self._actions_of(token)]
        in_beam = self._place(frame, tf.where(known, beam.last, -1), parent)
        bounds = tf.concat([*[repeated] * len(repeating), nothing], axis=1)
        candidates = _lower(candidates, tf.concat([*repeating, in_beam], axis=1), bounds)

        rewards = self._rewards(beam.context)
        scores, pick = tf.math.top_k(candidates if rewards is None else candidates + rewards, self.width)
        stays, exists, source = pick < self.width, scores > low / 2, tf.gather(self._source, pick)
        action = tf.where(stays, -1, self._action(frame, pick))
        grown = scores if rewards is None else tf.gather(candidates, pick, batch_dims=1)
        by_blank = tf.where(exists & stays, tf.gather(by_blank, source, batch_dims=1), low)
        by_token = tf.where(exists, tf.where(stays, tf.gather(by_token, source, batch_dims=1), grown), low)
        either = tf.concat([beam.parent, hashes], axis=1)
        parent = tf.gather(either, tf.where(stays, source, source + self.width), batch_dims=1)
        last = tf.where(stays, tf.gather(beam.last, source, batch_dims=1), action)
        best = tf.where(exists[:, :1], log_add(by_blank[:, :1], by_token[:, :1]), tf.zeros([], low.dtype))
        beam = Beam(
            by_blank - best,
            by_token - best,
            # Missing prefixes have neither parents nor extensions.
            tf.where(exists, parent, self._no_parent()),
            tf.where(exists, last, -1),
            beam.scale + tf.cast(best[:, 0], tf.float64),
            beam.context if rewards is None else self._advance(beam.context, source, action, rewards, pick),
        )
        return beam, source, action

    def finish(self, beam):
        """Returns log probabilities and scores of the prefixes as complete sequences, `[B, W]`."""
        log_probability = log_add(beam.blank, beam.token)
        exists = log_probability > LOG_ZERO / 2
        log_probability += tf.cast(beam.scale, log_probability.dtype)[:, None]
        log_probability = tf.where(exists, log_probability, tf.cast(LOG_ZERO, log_probability.dtype))
        return log_probability, self._final_score(log_probability, beam.context)

    def _no_parent(self):
        return -1 - tf.range(self.width, dtype=tf.int64)

    # `FusedBeam` overrides the methods below.

    def _token_of(self, action):
        return action

    def _actions_of(self, token):
        return [token]

    def _grow(self, frame, total):
        """Returns log probabilities of the extensions, `[B, M]`, as if none repeated its last token."""
        source, rank = self._grown
        return tf.gather(total, source, axis=1) + tf.gather(frame[1], rank, axis=1)

    def _place(self, frame, action, source):
        """Returns the place of the candidate that extends `source` by `action`; the last place if there is none."""
        rank = tf.gather(frame[3], tf.maximum(action, 0), batch_dims=1)
        there = (action >= 0) & (source < tf.gather(self._height, rank))
        return tf.where(there, tf.gather(self._first, rank) + source, len(self._source) - 1)

    def _action(self, frame, pick):
        return tf.gather(frame[2], tf.gather(self._column, pick), batch_dims=1)

    def _rewards(self, context):
        return None

    def _final_score(self, log_probability, context):
        return log_probability


def log_softmax(logits):
    """Returns log probabilities of logits `[B, T, V]`, time first; `LOG_ZERO` where they are negligible.

    Example:

    >>> log_softmax(tf.constant([[[0.0, -np.inf]]])).numpy()[0, 0].tolist() == [0, np.float32(LOG_ZERO)]
    True
    """
    logp = tf.nn.log_softmax(tf.transpose(logits, [1, 0, 2]))
    return tf.where(logp > NEGLIGIBLE, logp, tf.cast(LOG_ZERO, logp.dtype))


def _hash(parent, action):
    """Returns a hash of a parent's hash and an action; two prefixes collide with probability 2 ** -63."""
    mixed = (parent ^ tf.cast(action + 2, tf.int64)) * 6364136223846793005
    return tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 29))


def _lower(values, places, bounds):
    """Limits `values[b, places[b, p]]` to at most `bounds[b, p]`; `[B, C]`, `[B, P]`, `[B, P]`."""
    batch, count = tf.unstack(tf.shape(values))
    flat = tf.reshape(places + tf.range(batch)[:, None] * count, [-1, 1])
    lowered = tf.tensor_scatter_nd_min(tf.reshape(values, [-1]), flat, tf.reshape(bounds, [-1]))
    return tf.reshape(lowered, [batch, count])
