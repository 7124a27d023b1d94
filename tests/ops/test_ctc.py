"""The CTC functions against plain Python and float64 numpy that follow the textbook word by word."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import certain_blank, ctc_loss, edit_distance, greedy_decode


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def collapse(path, blank):
    return [token for token, _ in itertools.groupby(path) if token != blank]


def loss_by_enumeration(labels, logits, blank):
    """-log of the summed probability of every path that collapses to the labels; V ** T paths."""
    logp = log_softmax(logits)
    frames, classes = logp.shape
    scores = [
        sum(logp[time, token] for time, token in enumerate(path))
        for path in itertools.product(range(classes), repeat=frames)
        if collapse(path, blank) == list(labels)
    ]
    return -np.logaddexp.reduce(scores) if scores else np.inf


def loss_by_recursion(labels, logits, blank):
    """Graves 2006, equations 6 to 8, in float64."""
    logp = log_softmax(logits)
    states = [blank]
    for label in labels:
        states += [label, blank]
    alpha = np.full(len(states), -np.inf)
    alpha[:2] = logp[0, states[:2]]
    for frame in logp[1:]:
        before = alpha.copy()
        for s, state in enumerate(states):
            terms = [before[s]] + ([before[s - 1]] if s > 0 else [])
            if s > 1 and state != blank and state != states[s - 2]:
                terms.append(before[s - 2])
            alpha[s] = np.logaddexp.reduce(terms) + frame[state]
    return -np.logaddexp.reduce(alpha[-2:])


def random_row(generator, longest=8, classes=None):
    """Labels, logits and a blank; the labels always fit into the frames."""
    classes = classes or generator.integers(2, 6)
    blank = int(generator.integers(classes))
    frames = generator.integers(1, longest + 1)
    labels = generator.choice([c for c in range(classes) if c != blank], size=generator.integers(0, frames + 1))
    while len(labels) + np.sum(labels[1:] == labels[:-1]) > frames:
        labels = labels[:-1]
    return labels.tolist(), generator.normal(0, 3, (frames, classes)), blank


def test_the_recursion_of_this_test_agrees_with_enumeration():
    generator = np.random.default_rng(0)
    for _ in range(60):
        labels, logits, blank = random_row(generator, longest=5, classes=3)
        expected = loss_by_enumeration(labels, logits, blank)
        np.testing.assert_allclose(loss_by_recursion(labels, logits, blank), expected, rtol=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_loss_is_that_of_the_textbook(classes):
    generator = np.random.default_rng(classes)
    for blank in range(classes):
        rows, lengths, frames = [], [], []
        labels, logits = np.full((12, 9), -1), np.full((12, 11, classes), np.nan, np.float32)
        for row in range(12):
            of_row, scores = [], None
            while scores is None or (blank in of_row):
                of_row, scores, _ = random_row(generator, longest=9, classes=classes)
            labels[row, : len(of_row)] = of_row
            # The padding of labels may be negative or the blank.
            labels[row, len(of_row) :] = generator.choice([-1, -7, blank])
            logits[row, : len(scores)] = scores
            rows.append(loss_by_recursion(of_row, logits[row, : len(scores)], blank))
            lengths.append(len(of_row))
            frames.append(len(scores))
        loss = ctc_loss(labels, logits, logit_length=np.array(frames), blank_index=blank)
        assert loss.dtype == "float32"
        np.testing.assert_allclose(loss, rows, rtol=2e-4, atol=1e-4)
        given = ctc_loss(labels, logits, np.array(lengths), np.array(frames), blank_index=blank)
        np.testing.assert_array_equal(given, loss)


@pytest.mark.parametrize(
    ("labels", "frames"), [([], 1), ([], 4), ([1], 1), ([1, 1], 3), ([1, 1, 1], 5), ([1, 2, 1], 3), ([2, 2, 1], 4)]
)
def test_rows_at_the_edge_of_the_possible(labels, frames):
    logits = np.random.default_rng(1).normal(size=(frames, 3)).astype("float32")
    loss = ctc_loss(np.array([[*labels, 0, -1]]), logits[None])
    np.testing.assert_allclose(loss, [loss_by_enumeration(labels, logits, 0)], rtol=1e-4)


def test_labels_that_do_not_fit_cost_much_and_stay_finite():
    loss = ctc_loss(np.array([[1, 1], [1, 2]]), np.zeros((2, 2, 3), "float32"))  # 1 - 1 needs three frames
    assert np.isfinite(loss).all()
    assert loss[0] > 100 > loss[1]


def test_a_label_length_cuts_the_labels():
    logits = np.random.default_rng(2).normal(size=(1, 6, 4)).astype("float32")
    cut = ctc_loss(np.array([[1, 2, 3]]), logits, label_length=np.array([2]))
    np.testing.assert_allclose(cut, ctc_loss(np.array([[1, 2]]), logits), rtol=1e-6)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30])
def test_what_stands_in_padded_frames_harms_neither_loss_nor_gradient(junk):
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(2, 5, 4)).astype("float32")
    padded = np.concatenate([logits, np.full((2, 3, 4), junk, np.float32)], axis=1)
    labels = np.array([[1, 2], [3, -1]])

    def gradient_of(values, **lengths):
        values = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = ctc_loss(labels, values, **lengths)
        return loss, tape.gradient(loss, values)

    loss, gradient = gradient_of(logits)
    padded_loss, padded_gradient = gradient_of(padded, logit_length=np.array([5, 5]))
    np.testing.assert_allclose(padded_loss, loss, rtol=1e-5)
    np.testing.assert_allclose(padded_gradient[:, :5], gradient, atol=1e-5)
    np.testing.assert_array_equal(padded_gradient[:, 5:], 0)


def test_gradient_is_the_slope_of_the_textbook_loss():
    generator = np.random.default_rng(4)
    for blank in (0, 1, 3):
        labels = [c for c in (2, 2, (blank + 1) % 4) if c != blank]
        logits = generator.normal(size=(6, 4))
        variable = tf.constant(logits[None], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            loss = ctc_loss(np.array([labels]), variable, blank_index=blank)
        slope = np.zeros_like(logits)
        for place in np.ndindex(logits.shape):
            step = np.zeros_like(logits)
            step[place] = 1e-5
            up, down = (loss_by_recursion(labels, logits + sign * step, blank) for sign in (1, -1))
            slope[place] = (up - down) / 2e-5
        np.testing.assert_allclose(tape.gradient(loss, variable)[0], slope, atol=1e-4)


def test_loss_is_the_same_in_a_graph_of_unknown_shape():
    graph = tf.function(
        ctc_loss,
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None, None], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    logits = np.random.default_rng(5).normal(size=(2, 7, 3)).astype("float32")
    labels, lengths, frames = np.array([[1, 2], [2, 0]], "int32"), np.array([2, 1]), np.array([7, 4])
    expected = ctc_loss(labels, logits, lengths, frames)
    np.testing.assert_allclose(
        graph(labels, logits, lengths.astype("int32"), frames.astype("int32")), expected, rtol=1e-5
    )


def test_greedy_decoding_is_collapse_of_the_best_path():
    generator = np.random.default_rng(6)
    for _ in range(40):
        batch, frames, classes = generator.integers(1, 5), generator.integers(1, 12), generator.integers(2, 5)
        blank = int(generator.integers(classes))
        # Whole numbers of 0 to 4 times 3: many repeats; the small noise leaves no ties.
        logits = generator.integers(0, 5, (batch, frames, classes)) * 3 + generator.uniform(0, 0.1, (batch, 1, classes))
        lengths = generator.integers(0, frames + 1, batch)
        padded = logits.astype("float32")
        padded[np.arange(frames) >= lengths[:, None]] = np.nan
        tokens, score = greedy_decode(padded, lengths, blank_index=blank)
        assert (tokens.dtype, score.dtype, tokens.shape) == ("int32", "float32", (batch, frames))
        for row in range(batch):
            expected = collapse(logits[row, : lengths[row]].argmax(axis=-1), blank)
            assert tokens[row].numpy().tolist() == expected + [-1] * (frames - len(expected))
            best = log_softmax(logits[row, : lengths[row]]).max(axis=-1).sum() if lengths[row] else 0.0
            np.testing.assert_allclose(score[row], best, rtol=1e-4, atol=1e-4)


def test_greedy_decoding_without_lengths_takes_all_frames():
    path = [[2, 2, 0, 2, 1, 1, 0]]
    tokens, _ = greedy_decode(np.eye(3, dtype="float32")[path] * 9)
    assert tokens.numpy().tolist() == [[2, 2, 1, -1, -1, -1, -1]]


def test_greedy_decoding_of_no_frames():
    tokens, score = greedy_decode(np.zeros((2, 0, 3), "float32"))
    assert (tokens.shape, score.numpy().tolist()) == ((2, 0), [0.0, 0.0])


def levenshtein(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def test_edit_distance_is_that_of_levenshtein():
    generator = np.random.default_rng(7)
    for _ in range(30):
        batch = generator.integers(1, 6)
        # Negative entries anywhere are no tokens.
        hypotheses = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        references = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        expected = [
            levenshtein([t for t in a if t >= 0], [t for t in b if t >= 0])
            for a, b in zip(hypotheses.tolist(), references.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(edit_distance(hypotheses, references), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("blank", [0, 1, 2])
def test_certain_blank_holds_in_every_precision(dtype, blank):
    logits = keras.ops.cast(np.random.default_rng(8).normal(0, 50, (2, 3, 3)), dtype)
    mask = np.array([[True, False, True], [False, True, False]])
    changed = certain_blank(logits, mask, blank)
    assert keras.backend.standardize_dtype(changed.dtype) == dtype
    wide, before = (np.asarray(keras.ops.cast(tensor, "float32")) for tensor in (changed, logits))
    np.testing.assert_array_equal(wide[mask], before[mask])
    assert np.isfinite(wide).all()
    np.testing.assert_array_equal(np.exp(log_softmax(wide[~mask])), np.tile(np.eye(3)[blank], (3, 1)))
    # In their own precision too: the blank has log probability 0 and no difference overflows.
    narrow = np.asarray(keras.ops.cast(keras.ops.log_softmax(changed), "float32"))[~mask]
    np.testing.assert_array_equal(narrow[:, blank], 0)
    assert not np.isnan(narrow).any()
