"""Beam search with penalties, n-best sequences and their alignments."""

from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.checks import require_count
from keras_dl.ops.decoding.decoded import Decoded, traced
from keras_dl.ops.decoding.loop import batch_size, bounded, of_length, run
from keras_dl.ops.decoding.penalties import coverage_penalty as coverage
from keras_dl.ops.decoding.penalties import length_penalty as penalty

_MINUS_INF = float("-inf")  # the score of a hypothesis that does not exist


class _Ended(NamedTuple):
    """The best P finished sequences of each row, `[B, P]`, best first; the score is -inf where there are fewer."""

    score: tf.Tensor
    log_probability: tf.Tensor
    length: tf.Tensor
    place: tf.Tensor  # index of the hypothesis at its last step


def beam_search(
    step,
    state,
    memory,
    *,
    start,
    end,
    max_length,
    min_length=0,
    beam_width=5,
    top_paths=1,
    length_penalty=0.0,
    coverage_penalty=0.0,
    memory_mask=None,
):
    """Finds the sequences with the highest scores by extending the most probable hypotheses.

    At each step, each of the `beam_width` open hypotheses of a row is extended by every id. The candidates are sorted
    by log probability; in a tie, those that add the end come last. Among the first `beam_width`, those that add the end
    are finished sequences; the first `beam_width` others are the open hypotheses of the next step. Finished sequences
    do not change and take no place in the beam; the best `top_paths` of them are kept by their score

        log_probability / ((5 + length) / 6) ** length_penalty + coverage_penalty * sum_s log min(sum_t alignment, 1)

    with the number of labels as the length. If fewer are finished after `max_length` steps, the best unfinished ones
    fill the remaining places. Rows are independent of each other. The search is exact if `beam_width` is at least the
    number of possible candidates. It stops when no open hypothesis can become better than the sequences that are kept.

    Args:
        step: `step(tokens [N] int32, time [] int32, state, memory) -> (logits [N, V], state, alignment [N, S] or
            None)`; time is 0 in the first step. Logits may be -inf; NaN counts as -inf. N is B in the first step and B
            x `beam_width` in later steps.
        state: nested tensors `[B, ...]`, carried along with their hypotheses; a dimension may grow from step to step.
        memory: nested tensors `[B, ...]`, in which entries may be None; repeated once for the hypotheses of each row.
        start: int, the token before the first label.
        end: int, the token that ends a sequence.
        max_length: int, or int tensor `[]`, the number of steps: a sequence has at most this many labels, one fewer if
            it includes the end. 0 or less gives empty sequences.
        min_length: int, or int tensor `[]`, the number of labels before which a sequence cannot end. Defaults to 0.
        beam_width: int. Defaults to 5.
        top_paths: int, the number of sequences per row, at most `beam_width`. Defaults to 1.
        length_penalty: float, or float tensor `[]` (see `length_penalty`). Defaults to 0.
        coverage_penalty: float >= 0 (see `coverage_penalty`). Defaults to 0.
        memory_mask: bool tensor `[B, S]`, the memory positions that the coverage includes, or None (default) for all.

    Returns:
        `Decoded`, sorted by the score.

    Raises:
        ValueError: if `beam_width` or `top_paths` is not an integer of at least 1, or `top_paths` exceeds `beam_width`;
            if the coverage penalty is negative, or not 0 and the step returns no alignment; if start or end is not a
            valid id; or if there is neither state nor memory.

    Example:

    >>> table = tf.math.log([[0.0, 0.4, 0.6], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3]])     # 0 is start and end
    >>> def step(tokens, time, state, memory):
    ...     return tf.gather(table, tokens), state, None
    >>> best = beam_search(step, (), tf.zeros([1]), start=0, end=0, max_length=4, beam_width=3, top_paths=2)
    >>> best.tokens.numpy().tolist(), tf.exp(best.score).numpy().round(3)            # 0.4 0.9 before 0.6 0.4
    ([[[1, -1, -1, -1], [2, -1, -1, -1]]], array([[0.36, 0.24]], dtype=float32))

    Reference: Wu et al. 2016, "Google's neural machine translation system", section 7,
    https://arxiv.org/abs/1609.08144
    """
    beam_width = require_count("beam_width", beam_width, 1)
    top_paths = require_count("top_paths", top_paths, 1, beam_width)
    if coverage_penalty < 0:
        raise ValueError(f"`coverage_penalty` must be 0 or more. Received: {coverage_penalty}")

    def score(log_probability, length, attention):
        score = log_probability / penalty(length, length_penalty)
        if not coverage_penalty:
            return score
        score += coverage(attention, coverage_penalty, places)
        return tf.where(log_probability > _MINUS_INF, score, _MINUS_INF)  # their alignment may be NaN

    def choose(time, log_probability, alignment, carry):
        beams, attention, ended = carry
        if coverage_penalty and alignment is None:
            raise ValueError("`coverage_penalty` requires a step that returns an alignment. Received: None")
        if attention is None:  # in the first step
            attention = tf.zeros(tf.shape(alignment)) if coverage_penalty else ()
        width, classes = beams.shape[1], log_probability.shape[1]
        candidates = beams[:, :, None] + tf.reshape(log_probability, [-1, width, classes])
        ends = tf.where(time >= min_length, candidates[:, :, end], _MINUS_INF)
        candidates = tf.where(tf.range(classes) != end, candidates, _MINUS_INF)
        candidates = tf.reshape(candidates, [-1, width * classes])
        if width * classes < beam_width:
            candidates = tf.pad(candidates, [[0, 0], [0, beam_width - width * classes]], constant_values=_MINUS_INF)
        beams, index = tf.math.top_k(candidates, beam_width)
        first = width * tf.range(tf.shape(beams)[0])[:, None]
        parents, tokens = first + tf.minimum(index // classes, width - 1), index % classes
        # Finished sequences among the best candidates. They follow the open ones in the row; open ones are ignored
        # here.
        total, index = tf.math.top_k(tf.concat([beams, ends], axis=1), beam_width)
        total = tf.where(index >= beam_width, total, _MINUS_INF)
        place = first + tf.maximum(index - beam_width, 0)
        attended = tf.gather(attention, place) if coverage_penalty else None
        length = tf.broadcast_to(time, tf.shape(total))
        ended = _best(ended, _Ended(score(total, length, attended), total, length, place), top_paths)
        parents, tokens = tf.reshape(parents, [-1]), tf.reshape(tokens, [-1])
        if coverage_penalty:
            attention = tf.gather(attention + tf.cast(alignment, tf.float32), parents)
        # Log probabilities never increase, coverage is never positive, and the length penalty is monotonic in the
        # length.
        divisor = tf.maximum(penalty(time + 1, length_penalty), penalty(count, length_penalty))
        proceed = tf.reduce_any(beams[:, 0] / divisor > ended.score[:, -1])
        return tokens, parents, (beams, attention, ended), proceed

    rows, min_length = batch_size(state, memory), tf.cast(min_length, tf.int32)
    bound = bounded(max_length)
    count = tf.convert_to_tensor(bound)
    places = None if memory_mask is None else tf.convert_to_tensor(memory_mask)[:, None]
    no_score = tf.fill([rows, top_paths], _MINUS_INF)
    none = tf.zeros([rows, top_paths], tf.int32)
    history, steps, (beams, attention, ended) = run(
        step,
        choose,
        state,
        memory,
        (tf.zeros([rows, 1]), None, _Ended(no_score, no_score, none, none)),
        start=start,
        end=end,
        max_length=max_length,
        width=beam_width,
    )
    # Without any step, the only result is the empty sequence.
    beams = tf.where(count > 0, beams, tf.where(tf.range(beam_width) == 0, 0.0, _MINUS_INF))
    ended = ended._replace(score=tf.where(count > 0, ended.score, _MINUS_INF))
    place = tf.reshape(tf.range(tf.size(beams)), tf.shape(beams))
    length = tf.fill(tf.shape(beams), tf.minimum(steps, count))
    attention = tf.where(count > 0, tf.gather(attention, place), 0.0) if coverage_penalty else None
    answers, finished = _filled(ended, _Ended(score(beams, length, attention), beams, length, place))
    possible = answers.score > _MINUS_INF
    length = tf.where(possible, answers.length, 0)
    tokens, alignment = traced(history, tf.where(possible, answers.place, 0), length)
    tokens = of_length(tokens, bound, -1, axis=2)
    alignment = None if alignment is None else of_length(alignment, bound, 0.0, axis=2)
    return Decoded(tokens, length, answers.score, answers.log_probability, alignment, finished & possible)


def _best(first, second, count):
    """Returns the best `count` sequences of both; in a tie, those of the first."""
    both = [tf.concat(pair, axis=1) for pair in zip(first, second, strict=True)]
    score, index = tf.math.top_k(both[0], count)
    return _Ended(score, *(tf.gather(values, index, batch_dims=1) for values in both[1:]))


def _filled(ended, unfinished):
    """Returns the finished sequences, filled up with the best unfinished ones, sorted, and which are finished."""
    paths = ended.score.shape[1]
    key = tf.where(ended.score > _MINUS_INF, float("inf"), _MINUS_INF)
    taken = tf.math.top_k(tf.concat([key, unfinished.score], axis=1), paths).indices
    both = [tf.concat(pair, axis=1) for pair in zip(ended, unfinished, strict=True)]
    order = tf.math.top_k(tf.gather(both[0], taken, batch_dims=1), paths).indices
    taken = tf.gather(taken, order, batch_dims=1)
    return _Ended(*(tf.gather(values, taken, batch_dims=1) for values in both)), taken < paths
