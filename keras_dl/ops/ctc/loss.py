"""The CTC loss: forward and backward recursions over the lattice, with an analytical gradient."""

import functools

import tensorflow as tf

from keras_dl.ops.ctc.certain_blank import may_emit_label
from keras_dl.ops.ctc.impossible import warn_of_impossible_rows
from keras_dl.ops.ctc.inputs import checked_inputs, refuse_nan, require, specs_of
from keras_dl.ops.ctc.lattice import minimum_frames
from keras_dl.ops.ctc.log_space import IMPOSSIBLE_GAP, LOG_ZERO, log_add

IMPOSSIBLE = ("zero", "inf", "raise")
_UNROLLED = 4  # frames per iteration of the loop, to spread its overhead
_WORTH_COMPILING = 64  # frames; compilation takes a second


def ctc_loss(labels, logits, label_length=None, logit_length=None, blank_index=0, impossible="zero"):
    """Computes the negative log probability of the labels, `-log p(labels | logits)`, for each sequence.

    Let b[t, k] and l[t, k] be the log probabilities of all path prefixes that are, at frame t, in the blank before
    label k and in label k. With the logits x,

        b[t, k] = logaddexp(b[t-1, k], l[t-1, k-1]) + x[t, blank]
        l[t, k] = logaddexp(l[t-1, k], b[t, k] - x[t, blank] if y[k] != y[k-1] else b[t-1, k]) + x[t, y[k]]

    This is the usual recursion (Graves et al. 2006, equations 6 to 8) with one logaddexp per state instead of sums of
    three terms. The backward variables are the forward variables of the reversed sequence. The gradient is
    `softmax(x) - occupancy`; the occupancy of a frame is a softmax over its states, in which the scale of the forward
    and backward variables cancels. Both are summed in float64 for any dtype of the logits, so that precision does not
    degrade over a thousand frames; logarithms and exponentials are computed in the dtype of the logits.

    Args:
        labels: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        logits: float tensor `[B, T, V]`, unnormalized, or ragged; padded frames may contain any values. float16 and
            bfloat16 are computed in float32.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.
        impossible: the loss of a row that no path fits: it has fewer frames than `minimum_frames`, or requires a class
            with probability zero, that is, with a logit of -inf, below -1e30, or 1e8 below the largest of its frame
            (`certain_blank` sets all classes except the blank to such a value). `"zero"` (default): loss and gradient
            are 0, and an eager call warns once. `"inf"`: the loss is infinite and the gradient 0. `"raise"`: an error
            that names the row.

    Returns:
        float32 tensor `[B]`; float64 for float64 logits.

    Raises:
        ValueError: if a shape, length, label or `impossible` is invalid, if a valid frame contains NaN, or if a row is
            impossible and `impossible` is `"raise"`; the message names the row. A graph raises
            `tf.errors.InvalidArgumentError` when it runs, except that NaN logits give a loss of NaN, which training
            callbacks can detect. XLA cannot raise; there, these checks are skipped.

    Example:

    >>> import numpy as np
    >>> uniform = np.zeros((1, 2, 3), "float32")                 # two frames, blank and two labels, each 1/3
    >>> loss = ctc_loss(np.array([[1]]), uniform)                # paths 11, 1-, -1: three of nine
    >>> round(float(np.exp(-loss[0])), 4)
    0.3333
    """
    loss, possible = loss_and_possible(labels, logits, label_length, logit_length, blank_index, impossible)
    return tf.where(possible, loss, tf.constant(0.0 if impossible == "zero" else float("inf"), loss.dtype))


def loss_and_possible(
    labels, logits, label_length=None, logit_length=None, blank_index=0, impossible="zero", trains=False
):
    """Computes the loss of each row and whether a path fits it; the loss of other rows may be any number.

    Args:
        labels, logits, label_length, logit_length, blank_index, impossible: see `ctc_loss`.
        trains: bool, whether to warn about impossible rows in graphs as well. Such a graph cannot be exported. Defaults
            to False.

    Returns:
        `(loss [B], possible [B])`, float32 or float64, and bool.

    Example:

    >>> loss, possible = loss_and_possible(tf.constant([[1], [-1]]), tf.zeros([2, 0, 3]), impossible="inf")
    >>> possible.numpy().tolist()
    [False, True]
    """
    if impossible not in IMPOSSIBLE:
        raise ValueError(f"`impossible` must be one of {', '.join(IMPOSSIBLE)}. Received: {impossible!r}")
    labels, logits, label_length, logit_length = checked_inputs(labels, logits, label_length, logit_length, blank_index)
    if tf.executing_eagerly():
        refuse_nan(logits, logit_length)
    function = _loss if tf.inside_function() else _traced(logits.dtype)
    loss, possible = function(labels, logits, label_length, logit_length, tf.constant(blank_index, tf.int32))
    needed = minimum_frames(labels, label_length, blank_index)
    if impossible == "raise":
        expected = (
            "Labels must fit into the frames of their row, at most {}, and have a probability above 0. "
            "Received in row {}: [frames, frames needed] = {}"
        )
        require(possible, expected, tf.shape(logits)[1], tf.stack([logit_length, needed], axis=1))
    if impossible == "zero" and (trains or tf.executing_eagerly()):
        frames = tf.reduce_sum(
            tf.cast(
                tf.sequence_mask(logit_length, tf.shape(logits)[1]) & may_emit_label(logits, blank_index), tf.int32
            ),
            axis=1,
        )
        warn_of_impossible_rows(possible, frames, needed)
    return loss, possible


@functools.cache
def _traced(dtype):
    """Returns one graph for all shapes, used by eager calls."""
    return tf.function(_loss, autograph=False, input_signature=specs_of(dtype))


def _loss(labels, logits, label_length, logit_length, blank_index):
    """Returns the loss of each row, NaN or huge if it is impossible, and whether a path fits the row."""
    frames, longest = (tf.shape(x)[1] if x.shape[1] is None else x.shape[1] for x in (logits, labels))
    forward = functools.partial(_forward, softplus=tf.math.softplus)
    if isinstance(frames, int) and isinstance(longest, int) and frames >= _WORTH_COMPILING:
        # With static shapes, XLA compiles once and halves the time of the loop.
        forward = tf.function(functools.partial(_forward, softplus=_softplus), autograph=False, jit_compile=True)
    valid = tf.sequence_mask(logit_length, frames)[..., None]
    inside = tf.sequence_mask(label_length, longest)
    labels = tf.where(inside, labels, 0)
    # Whether label k may directly follow label k - 1, without a blank between them.
    follows = tf.pad(labels[:, 1:] != labels[:, :-1], [[0, 0], [1, 0]])
    follows_reversed = tf.pad(tf.reverse(follows[:, 1:], [1]), [[0, 0], [1, 0]])

    @tf.custom_gradient
    def loss_of(logits):
        logits = tf.where(valid, logits, tf.zeros([], logits.dtype))
        peak, below, log_sum = _log_partition(logits)
        able = below > IMPOSSIBLE_GAP
        # A frame in which only the blank is possible is treated as padding: its huge logits are not summed.
        alone = tf.math.count_nonzero(able, axis=2, keepdims=True) == 1
        emits = valid & ~(alone & (tf.gather(below, [blank_index], axis=2) == 0))
        total = tf.reduce_sum(tf.where(emits, tf.cast(peak, tf.float64) + tf.cast(log_sum, tf.float64), 0), axis=[1, 2])
        emitted = tf.where(able, logits, LOG_ZERO)
        of_blank = tf.where(emits, tf.gather(emitted, [blank_index], axis=2), 0)
        of_labels = tf.where(emits & inside[:, None], tf.gather(emitted, labels, axis=2, batch_dims=1), LOG_ZERO)
        # Time first, padded to a positive multiple of the unrolled frames.
        missing = [[0, _UNROLLED - frames % _UNROLLED], [0, 0], [0, 0]]
        of_blank = tf.pad(tf.transpose(of_blank, [1, 0, 2]), missing)
        of_labels = tf.pad(tf.transpose(of_labels, [1, 0, 2]), missing, constant_values=LOG_ZERO)

        prefixes, last, scale = forward(of_blank, of_labels, follows, tf.zeros_like(label_length))
        end = log_add(
            tf.gather(last[0], label_length, batch_dims=1),
            tf.gather(tf.pad(last[1], [[0, 0], [1, 0]], constant_values=LOG_ZERO), label_length, batch_dims=1),
            softplus=tf.math.softplus,
        )
        log_probability = scale[:, 0] + end
        possible = (log_probability > LOG_ZERO / 2) | tf.math.is_nan(total)  # a NaN must reach the loss

        def gradient(upstream, _):
            suffixes, _, _ = forward(
                tf.reverse(of_blank, [0]), tf.reverse(of_labels, [0, 2]), follows_reversed, longest - label_length
            )
            blanks, of_label = _occupancy(prefixes, suffixes, (of_blank, of_labels), frames)
            classes = tf.shape(logits)[2]
            slope = tf.exp(below - log_sum) - blanks * tf.one_hot(blank_index, classes, dtype=logits.dtype)
            slope -= of_label @ tf.one_hot(labels, classes, dtype=logits.dtype)
            upstream = tf.where(possible, upstream, 0)[:, None, None]
            return upstream * tf.where(emits & possible[:, None, None], slope, 0)

        return (tf.cast(total - log_probability, logits.dtype), possible), gradient

    return loss_of(logits)


def _log_partition(logits):
    """Returns the largest logit, the differences from it and the log of the sum of their exponentials, per frame."""
    peak = tf.maximum(tf.reduce_max(logits, axis=2, keepdims=True), LOG_ZERO)
    below = logits - peak
    # log1p of the sum without the peak's own 1, which would absorb the others where one class is nearly certain.
    others = tf.reduce_sum(tf.where(below == 0, tf.zeros_like(below), tf.exp(below)), axis=2, keepdims=True)
    others += tf.math.count_nonzero(below == 0, axis=2, keepdims=True, dtype=logits.dtype) - 1
    return peak, below, tf.math.log1p(others)


def _occupancy(prefixes, suffixes, emissions, frames):
    """Returns the probability of being in each state at each frame.

    Args:
        prefixes, suffixes: pairs of float64 `[T, B, L + 1]` and `[T, B, L]`, from `_forward`; the suffixes are those
            of the reversed problem.
        emissions: the pair of logits of the blank, `[T, B, 1]`, and of the labels, `[T, B, L]`.
        frames: int, or int tensor, the number of frames without those that pad the last iteration.

    Returns:
        `(blanks, labels)`: `[B, frames, 1]`, the sum over all blanks, and `[B, frames, L]`, in the dtype of the
        emissions.
    """
    occupancy = [
        (prefix + tf.reverse(suffix, [0, 2]) - tf.cast(emission, tf.float64))[:frames]
        for prefix, suffix, emission in zip(prefixes, suffixes, emissions, strict=True)
    ]
    peak = tf.reduce_max(tf.concat(occupancy, axis=2), axis=2, keepdims=True)
    blanks, labels = (tf.exp(tf.cast(part - peak, emissions[0].dtype)) for part in occupancy)
    blanks = tf.reduce_sum(blanks, axis=2, keepdims=True)
    scale = 1 / (blanks + tf.reduce_sum(labels, axis=2, keepdims=True))
    return [tf.transpose(part * scale, [1, 0, 2]) for part in (blanks, labels)]


def _forward(of_blank, of_labels, follows, start, softplus):
    """Computes the log probability of all path prefixes, by their state at each frame.

    Args:
        of_blank: float `[T, B, 1]`, logits of the blank; T is a multiple of the unrolled frames.
        of_labels: float `[T, B, L]`, logits of the labels.
        follows: bool `[B, L]`, whether label k may directly follow label k - 1.
        start: int32 `[B]`, the blank in which all paths are before the first frame.
        softplus: function (see `log_add`).

    Returns:
        `((blanks, labels), last, scale)`: float64 `[T, B, L + 1]` and `[T, B, L]`, up to a constant for each frame and
        row; those of the last frame, to which `scale` `[B, 1]` must be added.
    """
    frames, batch, longest = tf.unstack(tf.shape(of_labels))
    low = tf.constant(LOG_ZERO, tf.float64)
    before_first = tf.fill([batch, 1], low)
    add = functools.partial(log_add, dtype=of_labels.dtype, softplus=softplus)
    blanks, labels = (tf.TensorArray(tf.float64, frames, element_shape=[None, None]) for _ in range(2))
    read_blank, read_labels = (
        tf.TensorArray(x.dtype, frames, element_shape=[None, None]).unstack(x) for x in (of_blank, of_labels)
    )

    def body(time, blank, label, scale, blanks, labels):
        for step in range(_UNROLLED):
            entered = add(blank, tf.concat([before_first, label], axis=1))
            label = add(label, tf.where(follows, entered[:, :-1], blank[:, :-1]))
            blank = entered + tf.cast(read_blank.read(time + step), tf.float64)
            label += tf.cast(read_labels.read(time + step), tf.float64)
            blanks, labels = blanks.write(time + step, blank), labels.write(time + step, label)
        # The dtype of the logits, in which `log_add` works, is most precise near 0.
        peak = tf.reduce_max(tf.concat([blank, label], axis=1), axis=1, keepdims=True)
        return time + _UNROLLED, blank - peak, label - peak, scale + peak, blanks, labels

    _, blank, label, scale, blanks, labels = tf.while_loop(
        lambda time, *_: time < frames,
        body,
        (
            0,
            tf.one_hot(start, longest + 1, tf.zeros([], tf.float64), low),
            tf.fill([batch, longest], low),
            tf.zeros([batch, 1], tf.float64),
            blanks,
            labels,
        ),
        maximum_iterations=frames // _UNROLLED,
    )
    return (blanks.stack(), labels.stack()), (blank, label), scale


def _softplus(x):
    """Returns `log(1 + exp(x))` for x <= 0; faster under XLA than `tf.math.softplus`, which handles more cases."""
    small = tf.exp(x)
    rounded = 1 + small
    return tf.math.log(rounded) + (small - (rounded - 1))  # compensates for the rounding of the sum
