"""Prefix beam search."""

import weakref
from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.checks import require_count
from keras_dl.ops.ctc.alignment import align
from keras_dl.ops.ctc.fused_beam import Fusion, beam_of, checked_fusion
from keras_dl.ops.ctc.inputs import checked_logits, dense_logits
from keras_dl.ops.ctc.log_space import LOG_ZERO


class Hypotheses(NamedTuple):
    """The N best decodings of each sequence, best first.

    Example:

    >>> best = beam_search_decode(tf.constant([[[0.0, 9.0], [0.0, 9.0]]]), beam_width=2)
    >>> best.tokens.numpy().tolist(), best.start.numpy().tolist(), best.end.numpy().tolist()
    ([[[1, -1]]], [[[0, -1]]], [[[2, -1]]])
    """

    tokens: tf.Tensor  # int32 [B, N, T], padded with -1
    log_probability: tf.Tensor  # float [B, N], from CTC only; -1e30 where there is no hypothesis
    score: tf.Tensor  # float [B, N], including language model and bonus
    start: tf.Tensor  # int32 [B, N, T], first frame of each token; -1 where there is no token
    end: tf.Tensor  # int32 [B, N, T], one past the last frame
    confidence: tf.Tensor  # float [B, N, T], mean probability of the token over its frames; 0 where there is none


def beam_search_decode(
    logits,
    beam_width=100,
    top_paths=1,
    blank_index=0,
    logit_length=None,
    lexicon=None,
    language_model=None,
    lm_weight=0.5,
    word_bonus=0.0,
    vocabulary=None,
):
    """Finds the most probable token sequences, summed over their paths, with a prefix beam search.

    After each frame, the `beam_width` most probable prefixes are kept:

        p_blank(y)     = (p_blank(y) + p_token(y)) p(blank)
        p_token(y)     = p_token(y) p(last of y)
        p_token(y + c) = p_token(y + c) + (p_blank(y) if c is the last of y else p_blank(y) + p_token(y)) p(c)

    The width is the only pruning, except that a token with probability below `exp(-2e4)` in a frame is ignored there.
    Prefixes are ranked by their score:

        score = log p_ctc + lm_weight * log p_lm + word_bonus * words

    An eager call is compiled by XLA, which takes seconds for each new combination of batch size, options, lexicon and
    language model, and for some new lengths (frames are padded to one of a few lengths). Use batches of the same shape
    and reuse the lexicon; for ragged data, call it in a `tf.function` with unknown dimensions. In a graph, it consists
    of stock operations, so a model that ends in it can be exported and served.

    Args:
        logits: float tensor `[B, T, V]`, unnormalized, or ragged; padded frames may contain any values. V is static.
        beam_width: int, the number of prefixes that are kept. Defaults to 100. It may exceed the number of possible
            prefixes.
        top_paths: int, the number N of hypotheses, at most `beam_width`. Defaults to 1.
        blank_index: int, the class of the blank. Defaults to 0.
        logit_length: int tensor `[B]`, or None (default) for T.
        lexicon: `Lexicon` that restricts decodings to sequences of its words, or None (default) for no restriction. A
            hypothesis ends with a complete word; if no prefix in the beam does, an unfinished word adds nothing to the
            score. Without a separator, a label sequence that can be split into words in two ways may appear as two
            hypotheses.
        language_model: `keras_dl.ops.ngram.NGram` over the words of the lexicon, evaluated at the end of each word, or,
            with `vocabulary`, over labels, evaluated at each token; None (default) for no language model. The end of
            the sequence is the end of the sentence.
        lm_weight: float, or float tensor `[]`. Defaults to 0.5.
        word_bonus: float, or float tensor `[]`, added for each complete word or, without a lexicon, for each token.
            Defaults to 0.
        vocabulary: list of str, the labels in order, as in `keras_dl.layers.CTCOutput`, for a language model over
            labels; None (default) for one over words.

    Returns:
        `Hypotheses(tokens, log_probability, score, start, end, confidence)`, best first: the tokens, int32 `[B, N, T]`,
        padded with -1; the CTC log probability, summed over the paths inside the beam, and the score, `[B, N]`, which
        are equal without lexicon and language model; the frames `start <= t < end` of each token on the most probable
        path of the hypothesis, and its confidence, the mean of `softmax(logits)` over these frames, as in `align`. If
        there are fewer than N hypotheses, the others have no tokens and a log probability and score of -1e30. Floats
        are float32, or float64 for float64 logits.

    Raises:
        ValueError: if the width, the number of hypotheses or the blank is not an integer or out of range; if V is not
            static; if the lexicon or language model has the wrong type or the lexicon or vocabulary does not match the
            classes; if a language model is given without either, or contains none of the labels or words; if a weight
            or bonus is not finite; if a length is out of range, or a valid frame contains NaN or has an infinite
            largest logit (for these two, a graph raises `tf.errors.InvalidArgumentError`).

    Example:

    >>> import numpy as np
    >>> logits = np.log([[[0.6, 0.4], [0.6, 0.4]]])              # best path: empty, 0.36; but 1 has 0.64
    >>> best = beam_search_decode(logits, beam_width=4, top_paths=2)
    >>> best.tokens.numpy().tolist(), np.exp(best.log_probability).round(2).tolist()
    ([[[1, -1], [-1, -1]]], [[0.64, 0.36]])

    Reference: Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition using bi-directional
    recurrent DNNs", algorithm 1, https://arxiv.org/abs/1408.2873
    """
    logits, logit_length = dense_logits(logits, logit_length)
    logits, blank_index = tf.convert_to_tensor(logits), require_count("blank_index", blank_index, 0)
    beam_width = require_count("beam_width", beam_width, 1)
    top_paths = require_count("top_paths", top_paths, 1, beam_width)
    logits, logit_length = checked_logits(logits, logit_length, blank_index)
    if logits.shape[2] is None:
        raise ValueError(f"The number of classes must be static. Received: logits of shape {logits.shape}")
    fusion = checked_fusion(logits.shape[2], blank_index, lexicon, language_model, vocabulary, lm_weight, word_bonus)
    options = beam_width, top_paths, blank_index, fusion
    if tf.inside_function():
        tokens, *scores = _search(logits, logit_length, tf.shape(logits)[1], *options)
    else:
        tokens, *scores = _compiled(logits, logit_length, *options)
    return Hypotheses(tokens, *scores, *_spans(tokens, logits, logit_length, blank_index))


def _compiled(logits, logit_length, beam_width, top_paths, blank_index, fusion):
    """Runs the search as one XLA program, several times faster than operation by operation."""
    frames = logits.shape[1]
    # Pads to one of a few lengths, to compile rarely; the padded frames are not searched.
    step = 2 ** max(4, (frames - 1).bit_length() - 2)
    padding = max(step, -(-frames // step) * step) - frames
    logits = tf.pad(logits, [[0, 0], [0, padding], [0, 0]])
    lexicon, language_model, *rest = fusion or (None, None)
    program = _program(lexicon, language_model)
    options = beam_width, top_paths, blank_index, rest
    tokens, *scores = program(logits, logit_length, tf.reduce_max(logit_length), *options)
    return tokens[:, :, :frames], *scores


_programs = weakref.WeakKeyDictionary()  # by lexicon, then by language model; without one, the key is `_search`


def _program(lexicon, language_model):
    """Returns the compiled search for a lexicon and a language model; cached while these exist elsewhere."""
    of_lexicon = _programs.setdefault(lexicon or _search, weakref.WeakKeyDictionary())
    if (language_model or _search) not in of_lexicon:
        parts = [part and weakref.ref(part) for part in (lexicon, language_model)]

        def search(logits, logit_length, frames, beam_width, top_paths, blank_index, rest):
            fusion = Fusion(*(part and part() for part in parts), *rest) if rest else None
            return _search(logits, logit_length, frames, beam_width, top_paths, blank_index, fusion)

        of_lexicon[language_model or _search] = tf.function(search, jit_compile=True, autograph=False)
    return of_lexicon[language_model or _search]


def _search(logits, logit_length, frames, beam_width, top_paths, blank_index, fusion):
    """Returns tokens, log probabilities and scores of the best prefixes after the first `frames` frames."""
    classes, inside = logits.shape[2], tf.sequence_mask(logit_length, tf.shape(logits)[1])
    # A padded frame emits the blank with probability one, which leaves every prefix unchanged.
    zero, low = tf.zeros([], logits.dtype), tf.constant(LOG_ZERO, logits.dtype)
    logits = tf.where(inside[..., None], logits, tf.where(tf.range(classes) == blank_index, zero, low))
    beams = beam_of(beam_width, classes, blank_index, fusion)
    beam, moves = run(beams, beams.start(tf.shape(logits)[0], logits.dtype), logits, frames)
    log_probability, score = beams.finish(beam)
    score, best = tf.math.top_k(score, top_paths)
    tokens, _ = trace_back(beams, moves, best)
    exists = score > low / 2
    return (
        tf.where(exists[..., None], tokens, -1),
        tf.where(exists, tf.gather(log_probability, best, batch_dims=1), low),
        tf.where(exists, score, low),
    )


def run(beams, beam, logits, frames, logit_length=None):
    """Advances a beam through the frames of logits `[B, T, V]`.

    Args:
        beams: `PrefixBeam`.
        beam: `Beam`, before the first frame.
        logits: float tensor `[B, T, V]`.
        frames: int tensor, the number of frames to process, at most T.
        logit_length: int32 tensor `[B]`, the frames of each row, after which its beam does not change; None (default)
            for all.

    Returns:
        `(beam, moves)`: the beam after the last frame, and a `tf.TensorArray` of int32 `[B, W]` for `trace_back`, of
        length T + 1. Elements that are not written are 0, which means that a prefix stays and keeps its place.

    Example:

    >>> beams = beam_of(2, 3, 0, None)
    >>> import numpy as np
    >>> logits = tf.constant(np.log([[[0.3, 0.1, 0.6], [0.8, 0.1, 0.1]]]))
    >>> beam, moves = run(beams, beams.start(1, tf.float64), logits, 2)
    >>> tf.exp(beams.finish(beam)[0]).numpy().round(2).tolist()      # 2: two paths, with a blank after it or before it
    [[0.57, 0.24]]
    """
    slices = beams.frames(logits)
    total = tf.shape(logits)[1]
    moves = tf.TensorArray(tf.int32, total + 1, element_shape=[logits.shape[0], beams.width])
    moves = moves.write(0, tf.zeros_like(beam.last))
    places = tf.range(beams.width)

    def body(time, beam, moves):
        live = None if logit_length is None else time < logit_length
        after, source, action = beams.step(beam, [of_all[time] for of_all in slices], live)
        return time + 1, after, moves.write(time + 1, (source - places) * (beams.actions + 1) + action + 1)

    _, beam, moves = tf.while_loop(lambda time, *_: time < frames, body, (0, beam, moves), maximum_iterations=total)
    return beam, moves


def trace_back(beams, moves, places):
    """Returns the tokens of the prefixes at some places of the last beam.

    Args:
        beams: `PrefixBeam`.
        moves: `tf.TensorArray` of `run`.
        places: int32 tensor `[B, N]`.

    Returns:
        `(tokens, places)`: the tokens that were added, int32 `[B, N, T]`, padded with -1, and the places in the first
        beam of the prefixes they were added to, int32 `[B, N]`.

    Example:

    >>> beams = beam_of(2, 3, 0, None)
    >>> import numpy as np
    >>> logits = tf.constant(np.log([[[0.3, 0.1, 0.6], [0.8, 0.1, 0.1]]]))
    >>> _, moves = run(beams, beams.start(1, tf.float64), logits, 2)
    >>> trace_back(beams, moves, tf.constant([[0, 1]]))[0].numpy().tolist()
    [[[2, -1], [-1, -1]]]
    """
    total = moves.size() - 1
    actions = tf.TensorArray(tf.int32, total + 1, element_shape=places.shape).write(0, tf.fill(tf.shape(places), -1))

    def body(time, places, actions):
        move = tf.gather(moves.read(time), places, batch_dims=1)
        actions = actions.write(time, move % (beams.actions + 1) - 1)
        return time - 1, places + move // (beams.actions + 1), actions

    _, places, actions = tf.while_loop(
        lambda time, *_: time > 0, body, (total, places, actions), maximum_iterations=total
    )
    actions = tf.transpose(actions.stack(), [1, 2, 0])
    actions = tf.where(actions < 0, -1, actions % beams.classes)
    return tokens_ahead(actions)[:, :, :total], places


def tokens_ahead(tokens):
    """Moves all entries of -1 to the end and keeps the order of the others: int32 `[..., T]`.

    Example:

    >>> tokens_ahead(tf.constant([[-1, 5, -1, 3]])).numpy().tolist()
    [[5, 3, -1, -1]]
    """
    count = tf.shape(tokens, tf.int64)[-1]
    place = tf.where(tokens < 0, count, tf.range(count))
    # Sorting integers that combine place and token is cheaper than sorting one by the other.
    ordered = tf.sort(place * 2**32 + tf.cast(tokens + 1, tf.int64))
    return tf.cast(ordered % 2**32, tf.int32) - 1


def _spans(tokens, logits, logit_length, blank_index):
    """Returns start, end and confidence of tokens `[B, N, T]` on the most probable path of each row."""

    def of_path(tokens):
        aligned = align(tokens, logits, logit_length=logit_length, blank_index=blank_index)
        return aligned.start, aligned.end, aligned.confidence

    longest = tf.shape(tokens)[2]
    if tf.executing_eagerly():  # under XLA, shapes must not depend on values
        tokens = tokens[:, :, : tf.reduce_max(tf.math.count_nonzero(tokens >= 0, axis=2))]
    if tokens.shape[1] == 1:
        spans = [tf.expand_dims(tensor, 1) for tensor in of_path(tokens[:, 0])]
    else:  # one by one, to limit the memory
        signature = (tf.int32, tf.int32, logits.dtype)
        spans = tf.map_fn(of_path, tf.transpose(tokens, [1, 0, 2]), fn_output_signature=signature)
        spans = [tf.transpose(tensor, [1, 0, 2]) for tensor in spans]
    padding = [[0, 0], [0, 0], [0, longest - tf.shape(tokens)[2]]]
    return [
        tf.pad(tensor, padding, constant_values=tf.cast(rest, tensor.dtype))
        for tensor, rest in zip(spans, (-1, -1, 0), strict=True)
    ]
