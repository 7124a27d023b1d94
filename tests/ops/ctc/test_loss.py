import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import ctc_loss

from .textbook import loss_by_enumeration, loss_by_recursion, random_row


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
