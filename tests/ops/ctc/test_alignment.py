import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import align

from .textbook import collapse, log_softmax, random_row


def best_by_enumeration(labels, logits, blank):
    """Returns the highest log probability of all V ** T paths that collapse to the labels."""
    logp = log_softmax(logits)
    return max(
        logp[np.arange(len(path)), path].sum()
        for path in itertools.product(range(logp.shape[1]), repeat=len(logp))
        if collapse(path, blank) == list(labels)
    )


def best_by_viterbi(labels, logits, blank):
    """Returns the same by dynamic programming in float64, one state and frame at a time."""
    states = [blank]
    for label in labels:
        states += [label, blank]
    best = [0.0] + [-np.inf] * (len(states) - 1)
    for frame in log_softmax(logits) if len(logits) else []:
        before = list(best)
        for s, state in enumerate(states):
            terms = [before[s]] + ([before[s - 1]] if s > 0 else [])
            if s > 1 and state != blank and state != states[s - 2]:
                terms.append(before[s - 2])
            best[s] = max(terms) + frame[state]
    return max(best[-2:])


def batch_of(rows, classes, dtype="float32"):
    """Returns rows `(labels, logits)`, padded with invalid values, and their lengths."""
    lengths = np.array([[len(labels), len(logits)] for labels, logits in rows], "int32")
    labels = np.full((len(rows), lengths[:, 0].max() + 1), -1, "int32")
    logits = np.full((len(rows), lengths[:, 1].max() + 2, classes), np.nan, dtype)
    for row, (of_row, scores) in enumerate(rows):
        labels[row, : len(of_row)], logits[row, : len(scores)] = of_row, scores
    return labels, logits, *lengths.T


def check(alignment, rows, blank, rtol):
    """Checks that paths collapse to the labels and are optimal, and that spans and confidences match the paths."""
    path, start, end, confidence, log_probability = (np.asarray(tensor) for tensor in alignment)
    assert (path.dtype, start.dtype, end.dtype) == ("int32", "int32", "int32")
    for row, (labels, logits) in enumerate(rows):
        frames, length = len(logits), len(labels)
        best = best_by_viterbi(labels, logits, blank)
        if best == -np.inf:
            assert log_probability[row] == -np.inf
            frames, length = 0, 0
        else:
            taken = path[row, :frames]
            assert collapse(taken.tolist(), blank) == list(labels)
            logp = log_softmax(logits)[np.arange(frames), taken] if frames else np.zeros(0)
            np.testing.assert_allclose(log_probability[row], best, rtol=rtol, atol=rtol)
            np.testing.assert_allclose(logp.sum(), best, rtol=rtol, atol=rtol)
            runs = [list(group) for _, group in itertools.groupby(range(frames), taken.__getitem__)]
            runs = [run for run in runs if taken[run[0]] != blank]
            assert list(zip(start[row, :length], end[row, :length], strict=True)) == [(r[0], r[-1] + 1) for r in runs]
            expected = [np.exp(logp[run]).mean() for run in runs]
            np.testing.assert_allclose(confidence[row, :length], expected, rtol=10 * rtol, atol=rtol)
        assert (path[row, frames:] == -1).all()
        assert (start[row, length:] == -1).all()
        assert (end[row, length:] == -1).all()
        assert (confidence[row, length:] == 0).all()


def test_the_textbook_viterbi_agrees_with_enumeration():
    generator = np.random.default_rng(0)
    for _ in range(60):
        labels, logits, blank = random_row(generator, longest=5, classes=3)
        expected = best_by_enumeration(labels, logits, blank)
        np.testing.assert_allclose(best_by_viterbi(labels, logits, blank), expected, rtol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float64", 1e-12)])
def test_alignments_are_the_best_paths(dtype, rtol):
    generator = np.random.default_rng(1)
    for blank in range(4):
        rows = []
        while len(rows) < 25:
            labels, logits, _ = random_row(generator, longest=12, classes=4)
            labels = [(label + blank) % 4 for label in labels]
            if blank not in labels:
                rows.append((labels, (logits * generator.choice([0.1, 1, 10])).astype(dtype)))
        # Rows that do not fit, without frames, without labels, and without both.
        tokens = [token for token in range(4) if token != blank]
        rows += [
            ([tokens[0]] * 3, rows[0][1][:1]),
            (tokens[:1], np.zeros((0, 4))),
            ([], rows[1][1]),
            ([], np.zeros((0, 4))),
        ]
        check(align(*batch_of(rows, 4, dtype), blank), rows, blank, rtol)


def test_a_long_peaky_row_is_aligned():
    generator = np.random.default_rng(2)
    rows = [
        (generator.integers(1, 9, 150), generator.normal(0, scale, (1000, 9)).astype("float32")) for scale in (1, 30)
    ]
    check(align(*batch_of(rows, 9)), rows, 0, 1e-5)


def test_missing_lengths_are_counted():
    logits = np.random.default_rng(3).normal(size=(3, 7, 4)).astype("float32")
    labels = np.array([[1, 2, 2], [3, 0, 0], [-1, -1, -7]])
    check(align(labels, logits), list(zip([[1, 2, 2], [3], []], logits, strict=True)), 0, 1e-5)


def test_a_label_of_probability_zero_is_impossible():
    logits = np.zeros((2, 3, 3), "float32")
    logits[0, :, 1] = -np.inf
    alignment = align(np.array([[1], [1]]), logits)
    assert alignment.log_probability[0] == -np.inf
    assert alignment.path[0].numpy().tolist() == [-1, -1, -1]
    np.testing.assert_allclose(alignment.log_probability[1], 3 * np.log(1 / 3), rtol=1e-6)


@pytest.mark.parametrize(("batch", "frames", "length"), [(0, 3, 2), (2, 0, 2), (2, 3, 0), (2, 0, 0), (0, 0, 0)])
def test_empty_inputs(batch, frames, length):
    alignment = align(np.ones((batch, length), "int32"), np.zeros((batch, frames, 3), "float32"))
    shapes = [(batch, frames), (batch, length), (batch, length), (batch, length), (batch,)]
    assert [tuple(tensor.shape) for tensor in alignment] == shapes
    expected = -np.inf if length else frames * np.log(1 / 3)
    if length < 2 or not frames:
        np.testing.assert_allclose(alignment.log_probability, [expected] * batch, rtol=1e-6)


SPECS = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None, None], tf.float32)]
SPECS += [tf.TensorSpec([None], tf.int32)] * 2
GRAPH = tf.function(align, input_signature=SPECS, autograph=False)


@pytest.mark.parametrize("jit", [False, True])
def test_a_graph_with_unknown_shapes_gives_the_same_alignment(jit):
    rows = [([1, 2], 7), ([2], 4), ([1, 1, 1], 3), ([], 5), ([2], 0)]
    generator = np.random.default_rng(4)
    rows = [(labels, generator.normal(size=(frames, 3)).astype("float32")) for labels, frames in rows]
    graph = tf.function(align, input_signature=SPECS, jit_compile=True, autograph=False) if jit else GRAPH
    check(graph(*batch_of(rows, 3)), rows, 0, 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    logits = tf.cast(np.random.default_rng(5).normal(0, 3, (2, 40, 5)), dtype)
    labels = np.array([[1, 2, 3, 4], [4, 4, 4, -1]])
    alignment = align(labels, logits)
    assert alignment.log_probability.dtype == alignment.confidence.dtype == tf.float32
    wide = tf.cast(logits, tf.float32).numpy()
    check(alignment, [([1, 2, 3, 4], wide[0]), ([4, 4, 4], wide[1])], 0, 1e-5)


def test_the_log_probability_has_the_gradient_of_its_path():
    logits = tf.constant(np.random.default_rng(6).normal(size=(2, 6, 4)), tf.float32)
    junk = tf.concat([logits, tf.fill([2, 2, 4], np.float32(np.nan))], axis=1)
    with tf.GradientTape() as tape:
        tape.watch(junk)
        alignment = align(np.array([[1, 2], [3, 3]]), junk, logit_length=np.array([6, 6]))
    gradient = tape.gradient(alignment.log_probability, junk).numpy()
    expected = np.eye(4)[alignment.path[:, :6]] - np.exp(log_softmax(logits))
    np.testing.assert_allclose(gradient[:, :6], expected, atol=1e-6)
    np.testing.assert_array_equal(gradient[:, 6:], 0)


NAN = np.where(np.arange(5)[:, None] == 3, np.nan, np.zeros((2, 5, 3))).astype("float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [[1, 2], [1, 3]]}, r"classes from 0 to 2 other than the blank 0.*in row 1: \[1 3\]"),
        ({"labels": [[0, 2], [1, 2]]}, r"classes from 0 to 2 other than the blank 0.*in row 0: \[0 2\]"),
        ({"label_length": [2, 3]}, r"from 0 to 2.*in row 1: 3"),
        ({"label_length": [-1, 2]}, r"from 0 to 2.*in row 0: -1"),
        ({"logit_length": [5, 6]}, r"from 0 to 5.*in row 1: 6"),
        ({"logits": NAN, "logit_length": [3, 4]}, "in row 1: NaN or infinity in frame 3"),
        ({"labels": [1, 2]}, r"labels \[B, L\] and logits \[B, T, V\]"),
        ({"labels": [[1, 2]]}, r"labels \[B, L\] and logits \[B, T, V\]"),
        ({"blank_index": 3}, "from 0 to 2. Received: 3"),
    ],
)
def test_invalid_inputs_raise(change, message):
    given = {"labels": [[1, 2], [2, 1]], "logits": np.zeros((2, 5, 3), "float32"), **change}
    given = {key: value if key == "blank_index" else tf.constant(value) for key, value in given.items()}
    with pytest.raises(ValueError, match=message):
        align(**given)
    if "row" in message:
        with pytest.raises(tf.errors.InvalidArgumentError, match="in row"):
            GRAPH(**{"label_length": tf.constant([2, 2]), "logit_length": tf.constant([5, 5]), **given})
