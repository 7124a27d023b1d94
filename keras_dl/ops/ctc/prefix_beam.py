"""One frame of a prefix beam search: each prefix stays or grows by a token, and the best ones are kept."""

import operator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dl.ops.ctc.certain_blank import LOW

# A log probability of a frame below this is as good as that. `certain_blank` leaves -1e9, or -3e4 of float16, for what
# does not occur in padding.
NEGLIGIBLE = -2e4


class Beam(NamedTuple):
    """The W prefixes that are kept of each sequence, best first; tensors `[B, W]` unless said otherwise.

    A prefix is known by a hash of 63 bits of its parent's hash and its last action. So a prefix that left the beam and
    comes back is again the parent of those that grew from it.

    Example:

    >>> beam = PrefixBeam(width=2, classes=3, blank_index=0).start(1, tf.float32)
    >>> beam.blank.numpy().tolist()[0][0], beam.last.numpy().tolist()        # the empty prefix, for certain
    (0.0, [[-1, -1]])
    """

    blank: tf.Tensor  # float, log probability of the paths that end in a blank, without `scale`
    token: tf.Tensor  # float, that of the paths that end in the last token, without `scale`
    parent: tf.Tensor  # int64, hash of the prefix without its last action; -1 and below if there is none
    last: tf.Tensor  # int32, the last action: a class, or what a `FusedBeam` takes for one; -1 if there is none
    scale: tf.Tensor  # float64 [B], taken out of the log probabilities, so that the best of them stays near 0
    context: tuple = ()  # what a `FusedBeam` remembers of each prefix


class PrefixBeam:
    """The step of a prefix beam search.

    The textbook tries every class on every prefix. Here the prefix at place r tries its `W // (r + 1) + 1` best tokens.
    With prefixes and tokens in decreasing order, candidate (r, q) is at most as good as the `(r + 1) (q + 1)` that
    stand ahead of it in both; of these, each prefix has at most one that does not count, since it repeats the last
    token. So none is missed that belongs among the best W.

    Args:
        width: int, the number W of prefixes that are kept.
        classes: int, the number V of classes.
        blank_index: int, the class of the blank.

    Raises:
        ValueError: if one of them is no int or out of range.

    Example:

    >>> beams = PrefixBeam(width=2, classes=3, blank_index=0)
    >>> frames = beams.frames(np.log([[[0.3, 0.1, 0.6]]]))
    >>> beam, source, action = beams.step(beams.start(1, tf.float64), [of_all[0] for of_all in frames])
    >>> action.numpy().tolist(), np.exp(beams.finish(beam)[0]).round(2).tolist()       # token 2, or nothing yet
    ([[2, -1]], [[0.6, 0.3]])
    """

    def __init__(self, width, classes, blank_index):
        self.width = width = checked_int("beam_width", width, 1)
        self.classes = classes = checked_int("classes", classes, 1)
        self.blank_index = checked_int("blank_index", blank_index, 0, classes - 1)
        self.actions = classes
        self.ranks = max(1, min(classes - 1, width + 1))  # how many tokens of a frame are tried at all
        # How many prefixes try the token of each rank; the rank behind the last is that of all other classes.
        height = [width, *(width // rank for rank in range(1, self.ranks)), 0]
        self._height = np.array(height, np.int32)
        # The candidates: W that stay, then those that grow, rank by rank; then a place for what is written nowhere.
        self._first = (width + np.cumsum(height) - height).astype(np.int32)
        self._grown = np.stack([np.concatenate([*map(np.arange, height)]), np.repeat(np.arange(len(height)), height)])
        self._source, self._column = np.pad(self._grown, [[0, 0], [width, 1]]).astype(np.int32)
        self._source[:width] = np.arange(width)

    def start(self, batch, dtype):
        """The beam of the empty prefix."""
        shape = [batch, self.width]
        return Beam(
            blank=tf.one_hot(tf.zeros([batch], tf.int32), self.width, tf.zeros([], dtype), tf.constant(LOW, dtype)),
            token=tf.fill(shape, tf.constant(LOW, dtype)),
            parent=tf.broadcast_to(self._no_parent(), shape),
            last=tf.fill(shape, -1),
            scale=tf.zeros([batch], tf.float64),
        )

    def frames(self, logits):
        """What `step` reads of logits `[B, T, V]`: a list of tensors, time first, the log probabilities ahead."""
        logp = log_softmax(logits)
        is_blank = tf.range(self.classes) == self.blank_index
        best, tokens = tf.math.top_k(tf.where(is_blank, tf.cast(2 * LOW, logp.dtype), logp), self.ranks)
        shape = tf.shape(logp)
        rows = tf.reshape(tf.range(shape[0] * shape[1]) * self.classes, [shape[0], shape[1], 1])
        behind = tf.broadcast_to(tf.range(self.ranks) - self.ranks, tf.shape(tokens))
        rank = tf.scatter_nd(
            tf.reshape(rows + tokens, [-1, 1]), tf.reshape(behind, [-1]), tf.reduce_prod(shape, keepdims=True)
        )
        return [logp, best, tokens, tf.reshape(rank, shape) + self.ranks]

    def step(self, beam, frame, live=None):
        """The beam after one more frame.

        Args:
            beam: `Beam`.
            frame: list of tensors, the slices of `frames`.
            live: bool tensor `[B]`, False where there is no frame and the beam stays as it is; None: True throughout.

        Returns:
            `(beam, source, action)`: of each prefix, where it or its parent stood in the beam before, and the action by
            which it grew, -1 if it stayed; int32 `[B, W]`.
        """
        logp, places = frame[0], tf.range(self.width)
        low = tf.cast(LOW, logp.dtype)
        total, hashes = log_add(beam.blank, beam.token), _hash(beam.parent, beam.last)
        token = self._token_of(beam.last)
        of_token = tf.where(token >= 0, tf.gather(logp, tf.maximum(token, 0), batch_dims=1), low)

        # If the parent of a prefix is in the beam as well, its growing into the prefix is no candidate but a gain.
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
        # What repeats the last token needs a blank before it, and what is in the beam already is no candidate.
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
            # What does not exist is nobody's parent and nobody's child.
            tf.where(exists, parent, self._no_parent()),
            tf.where(exists, last, -1),
            beam.scale + tf.cast(best[:, 0], tf.float64),
            beam.context if rewards is None else self._advance(beam.context, source, action, rewards, pick),
        )
        return beam, source, action

    def finish(self, beam):
        """Log probabilities and scores of the prefixes as the whole sequence, `[B, W]`."""
        log_probability = log_add(beam.blank, beam.token)
        exists = log_probability > LOW / 2
        log_probability += tf.cast(beam.scale, log_probability.dtype)[:, None]
        log_probability = tf.where(exists, log_probability, tf.cast(LOW, log_probability.dtype))
        return log_probability, self._final_score(log_probability, beam.context)

    def _no_parent(self):
        return -1 - tf.range(self.width, dtype=tf.int64)

    # What follows is otherwise in a `FusedBeam`.

    def _token_of(self, action):
        return action

    def _actions_of(self, token):
        return [token]

    def _grow(self, frame, total):
        """Log probabilities of the candidates that grow, `[B, M]`, as if none repeated its last token."""
        source, rank = self._grown
        return tf.gather(total, source, axis=1) + tf.gather(frame[1], rank, axis=1)

    def _place(self, frame, action, source):
        """Where the candidate stands that grows from `source` by `action`; the last place if there is none."""
        rank = tf.gather(frame[3], tf.maximum(action, 0), batch_dims=1)
        there = (action >= 0) & (source < tf.gather(self._height, rank))
        return tf.where(there, tf.gather(self._first, rank) + source, len(self._source) - 1)

    def _action(self, frame, pick):
        return tf.gather(frame[2], tf.gather(self._column, pick), batch_dims=1)

    def _rewards(self, context):
        return None

    def _final_score(self, log_probability, context):
        return log_probability


def checked_int(name, value, least, most=None):
    """An option that counts, as an int; integers of numpy are too.

    Raises:
        ValueError: if it is none, below `least` or above `most`.

    Example:

    >>> checked_int("beam_width", 2.5, 1)
    Traceback (most recent call last):
        ...
    ValueError: `beam_width` must be an int of at least 1. Received: 2.5
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"`{name}` must be an int {limits}. Received: {value!r}")
    return number


def log_softmax(logits):
    """Log probabilities of logits `[B, T, V]`, time first; `LOW` where it is nothing, as in padding or by -inf.

    Example:

    >>> log_softmax(tf.constant([[[0.0, -np.inf]]])).numpy()[0, 0].tolist() == [0, np.float32(LOW)]
    True
    """
    logp = tf.nn.log_softmax(tf.transpose(logits, [1, 0, 2]))
    return tf.where(logp > NEGLIGIBLE, logp, tf.cast(LOW, logp.dtype))


def log_add(first, second):
    """`log(exp(first) + exp(second))`.

    Example:

    >>> float(tf.exp(log_add(tf.math.log(2.0), tf.math.log(3.0))).numpy().round(3))
    5.0
    """
    return tf.maximum(first, second) + tf.math.log1p(tf.exp(-tf.abs(first - second)))


def _hash(parent, action):
    """A hash from 0 to 2 ** 63 of a parent's hash and an action; that two prefixes share one has chance 2 ** -63."""
    mixed = (parent ^ tf.cast(action + 2, tf.int64)) * 6364136223846793005
    return tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 29))


def _lower(values, places, bounds):
    """`values[b, places[b, p]]` lowered to `bounds[b, p]`; `[B, C]`, `[B, P]`, `[B, P]`."""
    batch, count = tf.unstack(tf.shape(values))
    flat = tf.reshape(places + tf.range(batch)[:, None] * count, [-1, 1])
    lowered = tf.tensor_scatter_nd_min(tf.reshape(values, [-1]), flat, tf.reshape(bounds, [-1]))
    return tf.reshape(lowered, [batch, count])
