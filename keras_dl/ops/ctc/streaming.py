"""Decoders that are given the frames in pieces as they come, and answer what the whole sequence gives.

Each has `initial_state(batch)`, `step(chunk, state)` and `finish(state)`. The state is all that is remembered: it can
be kept for each listener, or stand between the inputs and outputs of an exported model.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.ctc.beam_search import run, tokens_ahead, trace_back
from keras_dl.ops.ctc.certain_blank import LOW
from keras_dl.ops.ctc.fused_beam import beam_of, checked_fusion
from keras_dl.ops.ctc.inputs import checked_logits
from keras_dl.ops.ctc.prefix_beam import Beam, checked_int


class GreedyState(NamedTuple):
    """What best path decoding remembers.

    Example:

    >>> StreamingGreedy(blank_index=4).initial_state(2).last.numpy().tolist()
    [4, 4]
    """

    last: tf.Tensor  # int32 [B], the class of the last frame
    log_probability: tf.Tensor  # float64 [B], of the path


class StreamingGreedy:
    """`greedy_decode` in pieces: a token is settled with its first frame.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.

    Raises:
        ValueError: if it is no int from 0.

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
        self.blank_index = checked_int("blank_index", blank_index, 0)
        self._step = tf.function(self._step, autograph=False, reduce_retracing=True)

    def initial_state(self, batch):
        """The state before the first frame of `batch` sequences."""
        return GreedyState(tf.fill([batch], self.blank_index), tf.zeros([batch], tf.float64))

    def step(self, chunk, state, chunk_length=None):
        """Decodes some more frames.

        Args:
            chunk: float tensor `[B, T, V]` of logits, of any T, 0 too; taken as float32.
            state: `GreedyState`.
            chunk_length: int tensor `[B]`, how many of the frames there are of each sequence, or None (default) for T.

        Returns:
            `(state, tokens)`: the state, and the new tokens, int32 `[B, T]`, padded with -1.

        Raises:
            ValueError: if the chunk has no class for the blank or another number of sequences than the state.
            tf.errors.InvalidArgumentError: if a length is out of range or a valid frame holds NaN or has an infinite
                best logit.
        """
        chunk, length = _floats_and_length(chunk, chunk_length, state.last)
        if (chunk.shape[2] or self.blank_index + 1) <= self.blank_index:
            raise ValueError(
                f"A chunk must have more classes than the blank, {self.blank_index}. Received: shape {chunk.shape}"
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
        """The log probability of the path, float64 `[B]`; there are no more tokens."""
        return state.log_probability


class BeamState(NamedTuple):
    """What a beam search remembers: its prefixes, and of their tokens those on which they do not agree yet.

    Example:

    >>> StreamingBeamSearch(classes=3, beam_width=8).initial_state(2).tail.shape
    TensorShape([2, 8, 0])
    """

    beam: Beam
    tail: tf.Tensor  # int32 [B, W, U], padded with -1


class StreamingBeamSearch:
    """`beam_search_decode` in pieces: tokens are settled when all prefixes in the beam agree on them.

    Equal to decoding the whole sequence, wherever it is cut. What is remembered are the prefixes, and of their tokens
    those behind the first on which they disagree: with a wide beam and few doubts, the first of them may stay open for
    long.

    Args:
        classes: int, the number V of classes.
        beam_width, blank_index, lexicon, language_model, lm_weight, word_bonus, vocabulary: as for
            `beam_search_decode`; the default width is 32.

    Raises:
        ValueError: if the width, the number of classes or the blank is no int or out of range; of lexicon, language
            model and their weights as `beam_search_decode`.

    Example:

    >>> import numpy as np
    >>> logits = np.eye(3, dtype="float32")[[[1, 1, 0, 1, 2]]] * 50
    >>> decoder = StreamingBeamSearch(classes=3)
    >>> state, settled = decoder.step(logits, decoder.initial_state(1))
    >>> rest, log_probability, score = decoder.finish(state)
    >>> settled.numpy().tolist(), rest.numpy().tolist(), float(np.round(score[0], 3))
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
        self.classes = classes = checked_int("classes", classes, 1)
        self.blank_index = blank_index = checked_int("blank_index", blank_index, 0, classes - 1)
        fusion = checked_fusion(classes, blank_index, lexicon, language_model, vocabulary, lm_weight, word_bonus)
        self._beams = beam_of(beam_width, classes, blank_index, fusion)
        self._prepare = tf.function(self._prepare, autograph=False, reduce_retracing=True)
        self._compiled = tf.function(self._run, autograph=False, jit_compile=True)
        self._settle = tf.function(self._settle, autograph=False, reduce_retracing=True)

    def initial_state(self, batch):
        """The state before the first frame of `batch` sequences."""
        return BeamState(self._beams.start(batch, tf.float32), tf.zeros([batch, self._beams.width, 0], tf.int32))

    def step(self, chunk, state, chunk_length=None):
        """Decodes some more frames.

        Args:
            chunk: float tensor `[B, T, V]` of logits, of any T, 0 too; taken as float32.
            state: `BeamState`.
            chunk_length: int tensor `[B]`, how many of the frames there are of each sequence, or None (default) for T.

        Returns:
            `(state, tokens)`: the state, and the tokens that are settled now, int32 `[B, S]`, padded with -1.

        Raises:
            ValueError: if the chunk has another number of classes or another number of sequences than the state.
            tf.errors.InvalidArgumentError: if a length is out of range or a valid frame holds NaN or has an infinite
                best logit.
        """
        chunk, length = _floats_and_length(chunk, chunk_length, state.tail)
        if not chunk.shape[2:].is_compatible_with([self.classes]):
            raise ValueError(
                f"A chunk must have {self.classes} classes, as the decoder has. Received: shape {chunk.shape}"
            )
        chunk = tf.ensure_shape(chunk, [None, None, self.classes])
        if tf.inside_function():
            chunk, length = checked_logits(chunk, length, self.blank_index)
            return self._settle(state.tail, *self._run(chunk, length, tf.shape(chunk)[1], state.beam))
        # The search as a program of XLA, the rest, whose shapes depend on values, as a graph.
        return self._settle(state.tail, *self._compiled(*self._prepare(chunk, length), state.beam))

    def finish(self, state):
        """The end of the sequences.

        Args:
            state: `BeamState`.

        Returns:
            `(tokens, log_probability, score)`: the tokens behind those that were settled, int32 `[B, S]`, padded with
            -1; log probability and score of the whole hypothesis, `[B]`, as `beam_search_decode` has them.
        """
        log_probability, score = self._beams.finish(state.beam)
        best = tf.argmax(score, axis=1)
        tokens, log_probability, score = (
            tf.gather(tensor, best, batch_dims=1) for tensor in (state.tail, log_probability, score)
        )
        return _cut(tokens), log_probability, score

    def _prepare(self, chunk, length):
        """What `_run` takes, with frames of padding, which are not searched: few shapes to compile for."""
        chunk, length = checked_logits(chunk, length, self.blank_index)
        frames = tf.shape(chunk)[1]
        step = tf.where(frames > 16, 64, 16)
        padding = tf.maximum(step, -(-frames // step) * step) - frames
        return tf.pad(chunk, [[0, 0], [0, padding], [0, 0]]), length, tf.reduce_max(length)

    def _run(self, chunk, length, frames, beam):
        """The beam behind the chunk, by which tokens its prefixes grew, and where they stood in the beam before."""
        beam, moves = run(self._beams, beam, chunk, frames, length)
        return beam, *trace_back(self._beams, moves, tf.broadcast_to(tf.range(self._beams.width), tf.shape(beam.last)))

    def _settle(self, tail, beam, tokens, places):
        tail = tokens_ahead(tf.concat([tf.gather(tail, places, batch_dims=1), tokens], axis=2))
        exists = tf.maximum(beam.blank, beam.token) > LOW / 2
        agree = tf.reduce_all((tail == tail[:, :1]) | ~exists[:, :, None], axis=1) & (tail[:, 0] >= 0)
        agree = tf.math.cumprod(tf.cast(agree, tf.int32), axis=1) == 1
        settled = tf.where(agree, tail[:, 0], -1)
        tail = tokens_ahead(tf.where(agree[:, None] | ~exists[:, :, None], -1, tail))
        return BeamState(beam, _cut(tail)), _cut(settled)


def _floats_and_length(chunk, length, of_state):
    chunk = tf.cast(chunk, tf.float32)
    if chunk.shape.rank not in (3, None):
        raise ValueError(f"A chunk must be of shape [B, T, V]. Received: shape {chunk.shape}")
    if not chunk.shape[:1].is_compatible_with(of_state.shape[:1]):
        raise ValueError(f"The state is of {of_state.shape[0]} sequences. Received: a chunk of shape {chunk.shape}")
    if tf.inside_function():
        expected = "The chunk and the state must be of as many sequences."
        same = tf.debugging.assert_equal(tf.shape(chunk)[0], tf.shape(of_state)[0], expected)
        with tf.control_dependencies([same]):
            chunk = tf.identity(chunk)
    return chunk, tf.fill([tf.shape(chunk)[0]], tf.shape(chunk)[1]) if length is None else tf.cast(length, tf.int32)


def _cut(tokens):
    """Without the places at the end that no row needs."""
    needed = tf.reduce_max(tf.math.count_nonzero(tokens >= 0, axis=-1))
    return tokens[..., : tf.maximum(needed, 0)]
