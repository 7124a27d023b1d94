"""Prefix beam search."""

import weakref
from typing import NamedTuple

import tensorflow as tf

from keras_dl.ops.ctc.alignment import align
from keras_dl.ops.ctc.certain_blank import LOW
from keras_dl.ops.ctc.fused_beam import Fusion, beam_of, checked_fusion
from keras_dl.ops.ctc.inputs import checked_logits
from keras_dl.ops.ctc.prefix_beam import checked_int


class Hypotheses(NamedTuple):
    """The N best decodings of each sequence, best first.

    Example:

    >>> best = beam_search_decode(tf.constant([[[0.0, 9.0], [0.0, 9.0]]]), beam_width=2)
    >>> best.tokens.numpy().tolist(), best.start.numpy().tolist(), best.end.numpy().tolist()
    ([[[1, -1]]], [[[0, -1]]], [[[2, -1]]])
    """

    tokens: tf.Tensor  # int32 [B, N, T], padded with -1
    log_probability: tf.Tensor  # float [B, N], by CTC alone; -1e30 where there is no hypothesis
    score: tf.Tensor  # float [B, N], with language model and bonus
    start: tf.Tensor  # int32 [B, N, T], the first frame of each token; -1 where there is no token
    end: tf.Tensor  # int32 [B, N, T], one past its last frame
    confidence: tf.Tensor  # float [B, N, T], the mean probability of the token over its frames; 0 where there is none


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
    """The most probable token sequences, summed over their paths, by a prefix beam search.

    After each frame the `beam_width` most probable prefixes are kept:

        p_blank(y)     = (p_blank(y) + p_token(y)) p(blank)
        p_token(y)     = p_token(y) p(last of y)
        p_token(y + c) = p_token(y + c) + (p_blank(y) if c is the last of y else p_blank(y) + p_token(y)) p(c)

    Nothing is pruned but for the width; a token below `exp(-2e4)` in a frame does not occur there. Prefixes are
    ranked by their score:

        score = log p_ctc + lm_weight * log p_lm + word_bonus * words

    An eager call is compiled, which takes seconds: for each other number of rows, other options, lexicon or language
    model, and, as the frames are padded to one of few lengths, for some more frames. Keep the batches alike and the
    lexicon, or call it in a `tf.function` of unknown shape where they are ragged. In a graph it is stock operations, so
    that a model which ends in it can be exported and served.

    Args:
        logits: float tensor `[B, T, V]`, unnormalised; frames of padding may hold anything. V must be known.
        beam_width: int, how many prefixes are kept. Defaults to 100. More than there are does no harm.
        top_paths: int, the number N of hypotheses, at most `beam_width`.
        blank_index: int, the class of the blank. Defaults to 0.
        logit_length: int tensor `[B]`, or None (default) for T.
        lexicon: `Lexicon`: only sequences of its words are decoded. A hypothesis ends in a whole word; where the beam
            has none that does, the unfinished word counts nothing. Without a separator, a sequence of labels that can
            be cut into words in two ways may be two hypotheses. None (default) for any tokens.
        language_model: `keras_dl.ops.ngram.NGram` of the words of the lexicon, asked where a word ends, or, with
            `vocabulary`, of labels, asked at each token. The end of the sequence is the end of the sentence.
        lm_weight: float, or float tensor `[]`. Defaults to 0.5.
        word_bonus: float, or float tensor `[]`, for each whole word; without a lexicon, for each token. Defaults to 0.
        vocabulary: list of str, the labels in order, as for `keras_dl.layers.CTCOutput`, if the language model is one
            of labels; None (default) if it is one of words.

    Returns:
        `Hypotheses(tokens, log_probability, score, start, end, confidence)`, best first: the tokens, int32 `[B, N, T]`,
        padded with -1; the log probability by CTC, of the paths that ran inside the beam, and the score, which is the
        same without lexicon and language model, `[B, N]`; the frames `start <= t < end` of each token on the most
        probable path of the hypothesis, and its confidence, the mean of `softmax(logits)` of the token over these
        frames, as `align` has them. Where there are fewer hypotheses than N, the rest have no tokens, and log
        probability and score -1e30. float32, or float64 for such logits.

    Raises:
        ValueError: if the width, the number of hypotheses or the blank is no int or out of range, V is not known, the
            lexicon or the vocabulary has other classes, a language model has neither of them or knows none of the
            labels or words, the lexicon or language model is of another class, a weight or bonus is not finite, a
            length is out of range, or a valid frame holds NaN or has an infinite best logit (the last two in a graph
            `tf.errors.InvalidArgumentError`).

    Example:

    >>> import numpy as np
    >>> logits = np.log([[[0.6, 0.4], [0.6, 0.4]]])              # best path: nothing, 0.36; but 1 has 0.64
    >>> best = beam_search_decode(logits, beam_width=4, top_paths=2)
    >>> best.tokens.numpy().tolist(), np.exp(best.log_probability).round(2).tolist()
    ([[[1, -1], [-1, -1]]], [[0.64, 0.36]])

    Reference: Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition using bi-directional
    recurrent DNNs", algorithm 1, https://arxiv.org/abs/1408.2873
    """
    logits, blank_index = tf.convert_to_tensor(logits), checked_int("blank_index", blank_index, 0)
    beam_width, top_paths = checked_int("beam_width", beam_width, 1), checked_int("top_paths", top_paths, 1)
    if top_paths > beam_width:
        raise ValueError(
            f"`top_paths` must be from 1 to `beam_width`. Received: top_paths={top_paths}, beam_width={beam_width}"
        )
    logits, logit_length = checked_logits(logits, logit_length, blank_index)
    if logits.shape[2] is None:
        raise ValueError(f"The number of classes must be known. Received: logits of shape {logits.shape}")
    fusion = checked_fusion(logits.shape[2], blank_index, lexicon, language_model, vocabulary, lm_weight, word_bonus)
    options = beam_width, top_paths, blank_index, fusion
    if tf.inside_function():
        tokens, *scores = _search(logits, logit_length, tf.shape(logits)[1], *options)
    else:
        tokens, *scores = _compiled(logits, logit_length, *options)
    return Hypotheses(tokens, *scores, *_spans(tokens, logits, logit_length, blank_index))


def _compiled(logits, logit_length, beam_width, top_paths, blank_index, fusion):
    """The search as one program of XLA, several times as fast as operation by operation."""
    frames = logits.shape[1]
    # Some frames of padding, which are not searched: few lengths to compile for.
    step = 2 ** max(4, (frames - 1).bit_length() - 2)
    padding = max(step, -(-frames // step) * step) - frames
    logits = tf.pad(logits, [[0, 0], [0, padding], [0, 0]])
    lexicon, language_model, *rest = fusion or (None, None)
    program = _program(lexicon, language_model)
    options = beam_width, top_paths, blank_index, rest
    tokens, *scores = program(logits, logit_length, tf.reduce_max(logit_length), *options)
    return tokens[:, :, :frames], *scores


_programs = weakref.WeakKeyDictionary()  # by lexicon, and then by language model; by `_search` where there is none


def _program(lexicon, language_model):
    """The compiled search with a lexicon and a language model, for as long as they are kept elsewhere."""
    of_lexicon = _programs.setdefault(lexicon or _search, weakref.WeakKeyDictionary())
    if (language_model or _search) not in of_lexicon:
        parts = [part and weakref.ref(part) for part in (lexicon, language_model)]

        def search(logits, logit_length, frames, beam_width, top_paths, blank_index, rest):
            fusion = Fusion(*(part and part() for part in parts), *rest) if rest else None
            return _search(logits, logit_length, frames, beam_width, top_paths, blank_index, fusion)

        of_lexicon[language_model or _search] = tf.function(search, jit_compile=True, autograph=False)
    return of_lexicon[language_model or _search]


def _search(logits, logit_length, frames, beam_width, top_paths, blank_index, fusion):
    """Tokens, log probabilities and scores of the best paths through the first `frames` frames."""
    classes, inside = logits.shape[2], tf.sequence_mask(logit_length, tf.shape(logits)[1])
    # A frame of padding is a blank for certain, by which every prefix stays what it is.
    blank_alone = tf.where(tf.range(classes) == blank_index, tf.zeros([], logits.dtype), tf.constant(LOW, logits.dtype))
    logits = tf.where(inside[..., None], logits, blank_alone)
    beams = beam_of(beam_width, classes, blank_index, fusion)
    beam, moves = run(beams, beams.start(tf.shape(logits)[0], logits.dtype), logits, frames)
    log_probability, score = beams.finish(beam)
    score, best = tf.math.top_k(score, top_paths)
    tokens, _ = trace_back(beams, moves, best)
    low = tf.constant(LOW, score.dtype)
    exists = score > low / 2
    return (
        tf.where(exists[..., None], tokens, -1),
        tf.where(exists, tf.gather(log_probability, best, batch_dims=1), low),
        tf.where(exists, score, low),
    )


def run(beams, beam, logits, frames, logit_length=None):
    """Takes a beam through the frames of logits `[B, T, V]`.

    Args:
        beams: `PrefixBeam`.
        beam: `Beam`, before the first frame.
        logits: float tensor `[B, T, V]`.
        frames: int tensor, after how many of the T frames to stop.
        logit_length: int32 tensor `[B]`, after how many frames a beam stays as it is; None: after all.

    Returns:
        `(beam, moves)`: the beam behind the last frame, and a `tf.TensorArray` of int32 `[B, W]` for `trace_back`, of
        length T + 1. What is not written there is 0, for a prefix that stays and keeps its place.

    Example:

    >>> beams = beam_of(2, 3, 0, None)
    >>> import numpy as np
    >>> logits = tf.constant(np.log([[[0.3, 0.1, 0.6], [0.8, 0.1, 0.1]]]))
    >>> beam, moves = run(beams, beams.start(1, tf.float64), logits, 2)
    >>> tf.exp(beams.finish(beam)[0]).numpy().round(2).tolist()      # 2: twice, with a blank behind or one ahead
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
    """The tokens that led to the prefixes at some places of the last beam.

    Args:
        beams: `PrefixBeam`.
        moves: `tf.TensorArray` of `run`.
        places: int32 tensor `[B, N]`.

    Returns:
        `(tokens, places)`: the tokens by which they grew, int32 `[B, N, T]`, padded with -1, and the places in the
        first beam of what they grew from, int32 `[B, N]`.

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
    """Moves what is not -1 ahead of what is, in the order in which it stands: int32 `[..., T]`.

    Example:

    >>> tokens_ahead(tf.constant([[-1, 5, -1, 3]])).numpy().tolist()
    [[5, 3, -1, -1]]
    """
    count = tf.shape(tokens, tf.int64)[-1]
    place = tf.where(tokens < 0, count, tf.range(count))
    # One sort of numbers that hold both the place and the token, which costs less than to sort one by the other.
    ordered = tf.sort(place * 2**32 + tf.cast(tokens + 1, tf.int64))
    return tf.cast(ordered % 2**32, tf.int32) - 1


def _spans(tokens, logits, logit_length, blank_index):
    """Start, end and confidence of tokens `[B, N, T]` on the most probable path of each row."""

    def of_path(tokens):
        aligned = align(tokens, logits, logit_length=logit_length, blank_index=blank_index)
        return aligned.start, aligned.end, aligned.confidence

    longest = tf.shape(tokens)[2]
    if tf.executing_eagerly():  # in a graph, under XLA, shapes must not depend on values
        tokens = tokens[:, :, : tf.reduce_max(tf.math.count_nonzero(tokens >= 0, axis=2))]
    if tokens.shape[1] == 1:
        spans = [tf.expand_dims(tensor, 1) for tensor in of_path(tokens[:, 0])]
    else:  # one after the other, for what an alignment takes in memory
        signature = (tf.int32, tf.int32, logits.dtype)
        spans = tf.map_fn(of_path, tf.transpose(tokens, [1, 0, 2]), fn_output_signature=signature)
        spans = [tf.transpose(tensor, [1, 0, 2]) for tensor in spans]
    padding = [[0, 0], [0, 0], [0, longest - tf.shape(tokens)[2]]]
    return [
        tf.pad(tensor, padding, constant_values=tf.cast(rest, tensor.dtype))
        for tensor, rest in zip(spans, (-1, -1, 0), strict=True)
    ]
