"""The CTC loss: two recursions over the lattice, and a gradient that needs no probability of the whole."""

import functools

import tensorflow as tf

from keras_dl.ops.ctc.certain_blank import LOW, NOTHING
from keras_dl.ops.ctc.inputs import checked_inputs, refuse_nan, require
from keras_dl.ops.ctc.lattice import minimum_frames

IMPOSSIBLE = ("zero", "inf", "raise")
_STEPS = 4  # of one turn of the loop: a turn has costs of its own
_WORTH_COMPILING = 64  # frames; compiling takes a second


def ctc_loss(labels, logits, label_length=None, logit_length=None, blank_index=0, impossible="zero"):
    """Negative log probability of the labels, `-log p(labels | logits)`, per sequence.

    With b[t, k] and l[t, k] the log probabilities of all beginnings of paths that stand at frame t in the blank before
    label k, or in label k itself, and x the logits,

        b[t, k] = logaddexp(b[t-1, k], l[t-1, k-1]) + x[t, blank]
        l[t, k] = logaddexp(l[t-1, k], b[t, k] - x[t, blank] if y[k] != y[k-1] else b[t-1, k]) + x[t, y[k]]

    which is the usual recursion (Graves et al. 2006, equations 6 to 8) with one logaddexp for each state instead of
    sums of three. Endings are the beginnings of the problem read backwards. The gradient, `softmax(x) - occupancy`,
    takes the occupancy of each frame as a softmax over its states, in which the scale of beginnings and endings
    cancels. Both are summed in float64, whatever the logits are, so that a thousand frames lose no digits; logarithms
    and exponentials are those of the logits' type.

    Args:
        labels: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        logits: float tensor `[B, T, V]`, unnormalised; frames of padding may hold anything. float16 and bfloat16 are
            computed in float32.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.
        impossible: what a row is worth that no path fits: it has fewer frames than `minimum_frames`, or needs a class
            that cannot be, with logit -inf, or below -1e30, or 1e8 below the best of its frame (what `certain_blank`
            leaves to all but the blank). `"zero"` (default) for a loss and a gradient of 0, `"inf"` for an infinite
            loss with gradient 0, `"raise"` for an error that names the row.

    Returns:
        float32 tensor `[B]`, float64 for such logits.

    Raises:
        ValueError: for shapes, lengths, labels or an `impossible` out of range, or NaN in a valid frame; an impossible
            row if asked for. It names the row. Within a graph `tf.errors.InvalidArgumentError` while it runs, but NaN
            then gives a loss of NaN, for the guards of training to see; under XLA, which cannot raise, nothing else.

    Example:

    >>> import numpy as np
    >>> uniform = np.zeros((1, 2, 3), "float32")                 # two frames, blank and two labels, each 1/3
    >>> loss = ctc_loss(np.array([[1]]), uniform)                # paths: 11, 1-, -1: three of nine
    >>> round(float(np.exp(-loss[0])), 4)
    0.3333
    """
    if impossible not in IMPOSSIBLE:
        raise ValueError(f"`impossible` must be one of {', '.join(IMPOSSIBLE)}. Received: {impossible!r}")
    labels, logits, label_length, logit_length = checked_inputs(labels, logits, label_length, logit_length, blank_index)
    if tf.executing_eagerly():
        refuse_nan(logits, logit_length)
    function = _loss if tf.inside_function() else _traced(logits.dtype)
    loss, possible = function(labels, logits, label_length, logit_length, tf.constant(blank_index, tf.int32))
    if impossible == "raise":
        needed = minimum_frames(labels, label_length, blank_index)
        expected = (
            "Labels must fit into the frames of their row, of which there are {}, and none be of probability 0. "
            "Received in row {}: [frames, frames needed] = {}"
        )
        require(possible, expected, tf.shape(logits)[1], tf.stack([logit_length, needed], axis=1))
    return tf.where(possible, loss, tf.constant(0.0 if impossible == "zero" else float("inf"), loss.dtype))


@functools.cache
def _traced(dtype):
    """One graph for all shapes, for eager calls."""
    rows, counts = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
    signature = [rows, tf.TensorSpec([None, None, None], dtype), counts, counts, tf.TensorSpec([], tf.int32)]
    return tf.function(_loss, autograph=False, input_signature=signature)


def _loss(labels, logits, label_length, logit_length, blank_index):
    """The loss of each row, NaN or huge where it has none, and whether some path fits."""
    frames, longest = (tf.shape(x)[1] if x.shape[1] is None else x.shape[1] for x in (logits, labels))
    walk = functools.partial(_walk, softplus=tf.math.softplus)
    if isinstance(frames, int) and isinstance(longest, int) and frames >= _WORTH_COMPILING:
        # Compiled once, a loop twice as fast.
        walk = tf.function(functools.partial(_walk, softplus=_softplus), autograph=False, jit_compile=True)
    valid = tf.sequence_mask(logit_length, frames)[..., None]
    inside = tf.sequence_mask(label_length, longest)
    labels = tf.where(inside, labels, 0)
    # Whether label k may follow label k - 1 at once, without a blank between.
    follows = tf.pad(labels[:, 1:] != labels[:, :-1], [[0, 0], [1, 0]])
    backwards = tf.pad(tf.reverse(follows[:, 1:], [1]), [[0, 0], [1, 0]])

    @tf.custom_gradient
    def loss_of(logits):
        logits = tf.where(valid, logits, tf.zeros([], logits.dtype))
        peak = tf.maximum(tf.reduce_max(logits, axis=2, keepdims=True), LOW)
        below = logits - peak
        # Without the peak's own 1, which would swallow the others where one class is nearly certain.
        others = tf.reduce_sum(tf.where(below == 0, tf.zeros_like(below), tf.exp(below)), axis=2, keepdims=True)
        others += tf.math.count_nonzero(below == 0, axis=2, keepdims=True, dtype=logits.dtype) - 1
        log_sum = tf.math.log1p(others)
        # A frame of padding is a blank for certain, and a certain blank is padding: its huge logits are not summed.
        able = below > NOTHING
        alone = tf.math.count_nonzero(able, axis=2, keepdims=True) == 1
        says = valid & ~(alone & (tf.gather(below, [blank_index], axis=2) == 0))
        total = tf.reduce_sum(tf.where(says, tf.cast(peak, tf.float64) + tf.cast(log_sum, tf.float64), 0), axis=[1, 2])
        emitted = tf.where(able, logits, LOW)
        of_blank = tf.where(says, tf.gather(emitted, [blank_index], axis=2), 0)
        of_labels = tf.where(says & inside[:, None], tf.gather(emitted, labels, axis=2, batch_dims=1), LOW)
        # Time first, and whole turns of the loop, at least one.
        missing = [[0, _STEPS - frames % _STEPS], [0, 0], [0, 0]]
        of_blank = tf.pad(tf.transpose(of_blank, [1, 0, 2]), missing)
        of_labels = tf.pad(tf.transpose(of_labels, [1, 0, 2]), missing, constant_values=LOW)

        beginnings, last, scale = walk(of_blank, of_labels, follows, tf.zeros_like(label_length))
        end = _logaddexp(
            tf.gather(last[0], label_length, batch_dims=1),
            tf.gather(tf.pad(last[1], [[0, 0], [1, 0]], constant_values=LOW), label_length, batch_dims=1),
        )
        log_probability = scale[:, 0] + end
        possible = (log_probability > LOW / 2) | tf.math.is_nan(total)  # NaN is not for this to hide

        def gradient(upstream, _):
            endings, _, _ = walk(
                tf.reverse(of_blank, [0]), tf.reverse(of_labels, [0, 2]), backwards, longest - label_length
            )
            occupancy = [
                (begun + tf.reverse(ended, [0, 2]) - tf.cast(here, tf.float64))[:frames]
                for begun, ended, here in zip(beginnings, endings, (of_blank, of_labels), strict=True)
            ]
            peak = tf.reduce_max(tf.concat(occupancy, axis=2), axis=2, keepdims=True)
            blanks, held = (tf.exp(tf.cast(part - peak, logits.dtype)) for part in occupancy)
            blanks = tf.reduce_sum(blanks, axis=2, keepdims=True)
            scale = 1 / (blanks + tf.reduce_sum(held, axis=2, keepdims=True))
            blanks, held = (tf.transpose(part * scale, [1, 0, 2]) for part in (blanks, held))
            classes = tf.shape(logits)[2]
            slope = tf.exp(below - log_sum) - blanks * tf.one_hot(blank_index, classes, dtype=logits.dtype)
            slope -= held @ tf.one_hot(labels, classes, dtype=logits.dtype)
            upstream = tf.where(possible, upstream, 0)[:, None, None]
            return upstream * tf.where(says & possible[:, None, None], slope, 0)

        return (tf.cast(total - log_probability, logits.dtype), possible), gradient

    return loss_of(logits)


def _walk(of_blank, of_labels, follows, start, softplus):
    """The log probability of all beginnings of paths, by the state in which they stand at each frame.

    Args:
        of_blank: float `[T, B, 1]`, T a multiple of the steps of a turn.
        of_labels: float `[T, B, L]`.
        follows: bool `[B, L]`, whether label k may follow label k - 1 at once.
        start: int32 `[B]`, the blank in which all paths stand before the first frame.

    Returns:
        `((blanks, labels), last, scale)`: float64 `[T, B, L + 1]` and `[T, B, L]`, up to a constant of each frame and
        row; those of the last frame, to which `scale` `[B, 1]` has to be added.
    """
    frames, batch, longest = tf.unstack(tf.shape(of_labels))
    low = tf.constant(LOW, tf.float64)
    before_first = tf.fill([batch, 1], low)
    logaddexp = functools.partial(_logaddexp, dtype=of_labels.dtype, softplus=softplus)
    blanks, labels = (tf.TensorArray(tf.float64, frames, element_shape=[None, None]) for _ in range(2))
    read_blank, read_labels = (
        tf.TensorArray(x.dtype, frames, element_shape=[None, None]).unstack(x) for x in (of_blank, of_labels)
    )

    def turn(time, blank, label, scale, blanks, labels):
        for step in range(_STEPS):
            entered = logaddexp(blank, tf.concat([before_first, label], axis=1))
            label = logaddexp(label, tf.where(follows, entered[:, :-1], blank[:, :-1]))
            blank = entered + tf.cast(read_blank.read(time + step), tf.float64)
            label += tf.cast(read_labels.read(time + step), tf.float64)
            blanks, labels = blanks.write(time + step, blank), labels.write(time + step, label)
        # Kept near 0, where the logits' own type has its digits.
        peak = tf.reduce_max(tf.concat([blank, label], axis=1), axis=1, keepdims=True)
        return time + _STEPS, blank - peak, label - peak, scale + peak, blanks, labels

    _, blank, label, scale, blanks, labels = tf.while_loop(
        lambda time, *_: time < frames,
        turn,
        (
            0,
            tf.one_hot(start, longest + 1, tf.zeros([], tf.float64), low),
            tf.fill([batch, longest], low),
            tf.zeros([batch, 1], tf.float64),
            blanks,
            labels,
        ),
        maximum_iterations=frames // _STEPS,
    )
    return (blanks.stack(), labels.stack()), (blank, label), scale


def _logaddexp(first, second, dtype=tf.float64, softplus=tf.math.softplus):
    """`log(exp(first) + exp(second))` in float64, its transcendental part in `dtype`."""
    larger = tf.maximum(first, second)
    return larger + tf.cast(softplus(tf.cast(tf.minimum(first, second) - larger, dtype)), tf.float64)


def _softplus(x):
    """For x <= 0 under XLA, whose own tells cases apart that do not occur. Elsewhere one operation costs less."""
    small = tf.exp(x)
    rounded = 1 + small
    return tf.math.log(rounded) + (small - (rounded - 1))  # with what the sum with 1 has lost
