"""Decoders that process frames in chunks and give the same result as decoding the whole sequence.

Each has `initial_state(batch)`, `step(chunk, state)` and `finish(state)`. The decoders keep no other state, so it can
be stored per client or be an input and output of an exported model.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.checks import require_count
from keras_dl.ops.ctc.beam_search import run, tokens_ahead, trace_back
from keras_dl.ops.ctc.fused_beam import beam_of, checked_fusion
from keras_dl.ops.ctc.inputs import checked_logits
from keras_dl.ops.ctc.log_space import LOG_ZERO
from keras_dl.ops.ctc.prefix_beam import Beam


class GreedyState(NamedTuple):
    """The state of `StreamingGreedy`.

    Example:

    >>> StreamingGreedy(blank_index=4).initial_state(2).last.numpy().tolist()
    [4, 4]
    """

    last: tf.Tensor  # int32 [B], the class of the last frame
    log_probability: tf.Tensor  # float64 [B], of the path


class StreamingGreedy:
    """Streaming version of `greedy_decode`: a token is final at its first frame.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.

    Raises:
        ValueError: if it is not an integer of at least 0.

    Example:

    >>> import numpy as np
    >>> logits = np.eye(3, dtype="float32")[[[1, 1, 0, 1, 2]]] * 50
    >>> decoder = StreamingGreedy()
    >>> state = decoder.initial_state(1)
    >>> for chunk in (logits[:, :1], logits[:, 1:3], logits[:, 3:]):
    ...     state, tokens = decoder.step(chunk, state)
    ...     print(tokens.numpy().tolist())
    [[1]]
    [[-1, -1]]
    [[1, 2]]
    """

    def __init__(self, blank_index=0):
        self.blank_index = require_count("blank_index", blank_index, 0)
        self._step = tf.function(self._step, autograph=False, reduce_retracing=True)

    def initial_state(self, batch):
        """Returns the state before the first frame of `batch` sequences."""
        return GreedyState(tf.fill([batch], self.blank_index), tf.zeros([batch], tf.float64))

    def step(self, chunk, state, chunk_length=None):
        """Decodes the next frames.

        Args:
            chunk: float tensor `[B, T, V]` of logits, cast to float32; T may be 0.
            state: `GreedyState`.
            chunk_length: int tensor `[B]`, the number of frames of each sequence, or None (default) for T.

        Returns:
            `(state, tokens)`: the new state and the new tokens, int32 `[B, T]`, padded with -1.

        Raises:
            ValueError: if the chunk does not include the class of the blank, or its batch size differs from that of the
                state.
            tf.errors.InvalidArgumentError: if a length is out of range, or a valid frame contains NaN or has an
                infinite largest logit.
        """
        chunk, length = _floats_and_length(chunk, chunk_length, state.last)
        if (chunk.shape[2] or self.blank_index + 1) <= self.blank_index:
            raise ValueError(
                f"A chunk must include the class of the blank, {self.blank_index}. Received: shape {chunk.shape}"
            )
        return self._step(chunk, length, state)

    def _step(self, chunk, length, state):
        logits, length = checked_logits(chunk, length, self.blank_index)
        inside = tf.sequence_mask(length, tf.shape(logits)[1])
        path = tf.argmax(logits, axis=2, output_type=tf.int32)
        path = tf.concat([state.last[:, None], path], axis=1)
        is_new = inside & (path[:, 1:] != path[:, :-1]) & (path[:, 1:] != self.blank_index)
        best = tf.reduce_max(tf.nn.log_softmax(tf.cast(logits, tf.float64)), axis=2)
        log_probability = state.log_probability + tf.reduce_sum(tf.where(inside, best, 0), axis=1)
        tokens = tokens_ahead(tf.where(is_new, path[:, 1:], -1))
        return GreedyState(tf.gather(path, length, batch_dims=1), log_probability), tokens

    def finish(self, state):
        """Returns the log probability of the path, float64 `[B]`; there are no further tokens."""
        return state.log_probability


class BeamState(NamedTuple):
    """The state of `StreamingBeamSearch`: its prefixes, and the tokens on which they do not agree yet.

    Example:

    >>> StreamingBeamSearch(classes=3, beam_width=8).initial_state(2).tail.shape
    TensorShape([2, 8, 0])
    """

    beam: Beam
    tail: tf.Tensor  # int32 [B, W, U], padded with -1


class StreamingBeamSearch:
    """Streaming version of `beam_search_decode`: a token is final when all prefixes in the beam agree on it.

    The result equals that of decoding the whole sequence, for any division into chunks. The state contains the prefixes
    and their tokens from the first disagreement on. With a wide beam, an unlikely prefix can delay final tokens for a
    long time.

    Args:
        classes: int, the number V of classes.
        beam_width, blank_index, lexicon, language_model, lm_weight, word_bonus, vocabulary: as for
            `beam_search_decode`, except that the default width is 32.

    Raises:
        ValueError: if the width, the number of classes or the blank is not an integer or out of range; for the other
            arguments, as for `beam_search_decode`.

    Example:

    >>> import numpy as np
    >>> logits = np.eye(3, dtype="float32")[[[1, 1, 0, 1, 2]]] * 50
    >>> decoder = StreamingBeamSearch(classes=3)
    >>> state, final = decoder.step(logits, decoder.initial_state(1))
    >>> rest, log_probability, score = decoder.finish(state)
    >>> final.numpy().tolist(), rest.numpy().tolist(), float(np.round(score[0], 3))
    ([[]], [[1, 1, 2]], 0.0)
    """

    def __init__(
        self,
        classes,
        beam_width=32,
        blank_index=0,
        lexicon=None,
        language_model=None,
        lm_weight=0.5,
        word_bonus=0.0,
        vocabulary=None,
    ):
        self.classes = classes = require_count("classes", classes, 1)
        self.blank_index = blank_index = require_count("blank_index", blank_index, 0, classes - 1)
        fusion = checked_fusion(classes, blank_index, lexicon, language_model, vocabulary, lm_weight, word_bonus)
        self._beams = beam_of(beam_width, classes, blank_index, fusion)
        self._prepare = tf.function(self._prepare, autograph=False, reduce_retracing=True)
        self._compiled = tf.function(self._run, autograph=False, jit_compile=True)
        self._settle = tf.function(self._settle, autograph=False, reduce_retracing=True)

    def initial_state(self, batch):
        """Returns the state before the first frame of `batch` sequences."""
        return BeamState(self._beams.start(batch, tf.float32), tf.zeros([batch, self._beams.width, 0], tf.int32))

    def step(self, chunk, state, chunk_length=None):
        """Decodes the next frames.

        Args:
            chunk: float tensor `[B, T, V]` of logits, cast to float32; T may be 0.
            state: `BeamState`.
            chunk_length: int tensor `[B]`, the number of frames of each sequence, or None (default) for T.

        Returns:
            `(state, tokens)`: the new state, and the tokens that became final, int32 `[B, S]`, padded with -1.

        Raises:
            ValueError: if the number of classes or the batch size of the chunk differs from that of the decoder or the
                state.
            tf.errors.InvalidArgumentError: if a length is out of range, or a valid frame contains NaN or has an
                infinite largest logit.
        """
        chunk, length = _floats_and_length(chunk, chunk_length, state.tail)
        if not chunk.shape[2:].is_compatible_with([self.classes]):
            raise ValueError(
                f"A chunk must have {self.classes} classes, like the decoder. Received: shape {chunk.shape}"
            )
        chunk = tf.ensure_shape(chunk, [None, None, self.classes])
        if tf.inside_function():
            chunk, length = checked_logits(chunk, length, self.blank_index)
            return self._settle(state.tail, *self._run(chunk, length, tf.shape(chunk)[1], state.beam))
        # The search runs as an XLA program, and the rest, whose shapes depend on values, as a graph.
        return self._settle(state.tail, *self._compiled(*self._prepare(chunk, length), state.beam))

    def finish(self, state):
        """Ends the sequences.

        Args:
            state: `BeamState`.

        Returns:
            `(tokens, log_probability, score)`: the tokens after those already final, int32 `[B, S]`, padded with -1;
            the log probability and score of the whole hypothesis, `[B]`, as in `beam_search_decode`.
        """
        log_probability, score = self._beams.finish(state.beam)
        best = tf.argmax(score, axis=1)
        tokens, log_probability, score = (
            tf.gather(tensor, best, batch_dims=1) for tensor in (state.tail, log_probability, score)
        )
        return _cut(tokens), log_probability, score

    def _prepare(self, chunk, length):
        """Returns the inputs of `_run`, padded to one of a few lengths to compile rarely."""
        chunk, length = checked_logits(chunk, length, self.blank_index)
        frames = tf.shape(chunk)[1]
        step = tf.where(frames > 16, 64, 16)
        padding = tf.maximum(step, -(-frames // step) * step) - frames
        return tf.pad(chunk, [[0, 0], [0, padding], [0, 0]]), length, tf.reduce_max(length)

    def _run(self, chunk, length, frames, beam):
        """Returns the beam after the chunk, the added tokens, and the places of the prefixes in the beam before it."""
        beam, moves = run(self._beams, beam, chunk, frames, length)
        return beam, *trace_back(self._beams, moves, tf.broadcast_to(tf.range(self._beams.width), tf.shape(beam.last)))

    def _settle(self, tail, beam, tokens, places):
        tail = tokens_ahead(tf.concat([tf.gather(tail, places, batch_dims=1), tokens], axis=2))
        exists = tf.maximum(beam.blank, beam.token) > LOG_ZERO / 2
        agree = tf.reduce_all((tail == tail[:, :1]) | ~exists[:, :, None], axis=1) & (tail[:, 0] >= 0)
        agree = tf.math.cumprod(tf.cast(agree, tf.int32), axis=1) == 1
        final = tf.where(agree, tail[:, 0], -1)
        tail = tokens_ahead(tf.where(agree[:, None] | ~exists[:, :, None], -1, tail))
        return BeamState(beam, _cut(tail)), _cut(final)


def _floats_and_length(chunk, length, of_state):
    chunk = tf.cast(chunk, tf.float32)
    if chunk.shape.rank not in (3, None):
        raise ValueError(f"A chunk must be of shape [B, T, V]. Received: shape {chunk.shape}")
    if not chunk.shape[:1].is_compatible_with(of_state.shape[:1]):
        raise ValueError(
            f"A chunk must have the batch size of the state, {of_state.shape[0]}. Received: shape {chunk.shape}"
        )
    if tf.inside_function():
        expected = "The chunk and the state must have the same batch size."
        same = tf.debugging.assert_equal(tf.shape(chunk)[0], tf.shape(of_state)[0], expected)
        with tf.control_dependencies([same]):
            chunk = tf.identity(chunk)
    return chunk, tf.fill([tf.shape(chunk)[0]], tf.shape(chunk)[1]) if length is None else tf.cast(length, tf.int32)


def _cut(tokens):
    """Removes trailing columns without tokens."""
    needed = tf.reduce_max(tf.math.count_nonzero(tokens >= 0, axis=-1))
    return tokens[..., : tf.maximum(needed, 0)]
