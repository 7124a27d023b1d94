import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import certain_blank, ctc_loss

from .textbook import loss_and_gradient, loss_by_enumeration, loss_by_recursion, random_row


def test_the_textbook_recursion_agrees_with_enumeration():
    generator = np.random.default_rng(0)
    for _ in range(60):
        labels, logits, blank = random_row(generator, longest=5, classes=3)
        expected = loss_by_enumeration(labels, logits, blank)
        np.testing.assert_allclose(loss_by_recursion(labels, logits, blank), expected, rtol=1e-10)
        np.testing.assert_allclose(loss_and_gradient(labels, logits, blank)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_loss_matches_the_textbook(classes):
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
def test_rows_that_barely_fit(labels, frames):
    logits = np.random.default_rng(1).normal(size=(frames, 3)).astype("float32")
    loss = ctc_loss(np.array([[*labels, 0, -1]]), logits[None])
    np.testing.assert_allclose(loss, [loss_by_enumeration(labels, logits, 0)], rtol=1e-4)


def test_labels_after_the_label_length_are_ignored():
    logits = np.random.default_rng(2).normal(size=(1, 6, 4)).astype("float32")
    cut = ctc_loss(np.array([[1, 2, 3]]), logits, label_length=np.array([2]))
    np.testing.assert_allclose(cut, ctc_loss(np.array([[1, 2]]), logits), rtol=1e-6)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30])
def test_padded_frames_change_neither_loss_nor_gradient(junk):
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


def test_the_gradient_matches_finite_differences():
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


def gradient(labels, logits, *lengths, **options):
    """Returns the losses and the gradient of their sum."""
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = ctc_loss(labels, logits, *lengths, **options)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


def hard_rows(generator, rows, frames, classes, longest, shortest=0):
    """Draws rows of all kinds: peaky, flat, impossible, empty, without frames; padding contains NaN and junk.

    Returns `(labels, logits, label lengths, logit lengths)`.
    """
    scales = generator.choice([0.1, 1, 8, 30], size=(rows, 1, 1))
    logits = (generator.normal(size=(rows, frames, classes)) * scales).astype("float32")
    logit_length = generator.integers(shortest, frames + 1, rows)
    label_length = np.minimum(generator.integers(0, longest + 1, rows), generator.integers(0, longest + 1, rows))
    # Few classes per row, so that neighbors are often equal and many rows are impossible.
    labels = generator.integers(1, generator.integers(2, classes, (rows, 1)) + 1, (rows, longest))
    labels[np.arange(longest) >= label_length[:, None]] = -5
    logits[np.arange(frames) >= logit_length[:, None]] = np.nan
    logits[:: rows // 3, :, 1] = -np.inf  # a label with probability zero
    return labels, logits, label_length, logit_length


def check_precision(problem):
    """Checks the errors of losses and gradients, relative to at least 1, and returns which rows are impossible."""
    labels, logits, label_length, logit_length = problem
    expected = [
        loss_and_gradient(of_row[:length], scores[:frames], 0)
        for of_row, scores, length, frames in zip(*problem, strict=True)
    ]
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        loss, slope = gradient(labels, logits.astype(dtype), label_length, logit_length)
        assert np.isfinite(loss).all() and np.isfinite(slope).all() and loss.dtype == slope.dtype == dtype
        for row, (right, right_slope) in enumerate(expected):
            frames, right = logit_length[row], 0.0 if right == np.inf else right
            assert abs(loss[row] - right) / max(1, right) < tolerance
            assert abs(slope[row, :frames] - right_slope).max(initial=0) < tolerance
            assert not slope[row, frames:].any()
    return np.array([right == np.inf for right, _ in expected])


@pytest.mark.parametrize("seed", range(4))
def test_hard_rows_match_the_textbook(seed):
    generator = np.random.default_rng(seed)
    frames, longest = (int(generator.integers(20, 60)), int(generator.integers(5, 25)))
    impossible = check_precision(hard_rows(generator, 250, frames, 9, longest))
    assert 5 < impossible.sum() < 245


def test_a_thousand_frames_keep_full_precision():
    problem = hard_rows(np.random.default_rng(9), 6, 1000, 12, 120, shortest=990)
    assert not check_precision(problem).all()


@pytest.mark.parametrize(("frames", "labels"), [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2), (5, 0)])
def test_tiny_inputs(frames, labels):
    logits = np.random.default_rng(0).normal(size=(1, frames, 3)).astype("float32")
    loss, slope = gradient(np.array([[1, 2][:labels]]).reshape(1, labels), logits, impossible="inf")
    expected, expected_slope = loss_and_gradient([1, 2][:labels], logits[0], 0)
    np.testing.assert_allclose(loss[0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(slope[0], expected_slope, atol=1e-6)


def test_impossible_rows_follow_the_option():
    labels, logits = np.array([[1, 1], [1, 2]]), np.zeros((2, 2, 3), "float32")  # 1 - 1 needs three frames
    zero, zero_slope = gradient(labels, logits)
    infinite, infinite_slope = gradient(labels, logits, impossible="inf")
    assert zero[0] == 0 and infinite[0] == np.inf
    assert zero[1] == infinite[1] == pytest.approx(np.log(9))
    np.testing.assert_array_equal(zero_slope, infinite_slope)
    assert not zero_slope[0].any() and zero_slope[1].any()
    with pytest.raises(ValueError, match=r"at most 2, .* row 0: \[frames, frames needed\] = \[2 3\]"):
        ctc_loss(labels, logits, impossible="raise")
    assert ctc_loss(labels[1:], logits[1:], impossible="raise").shape == (1,)
    graph = tf.function(lambda labels, logits: ctc_loss(labels, logits, impossible="raise"), autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received in row"):
        graph(labels, logits)


@pytest.mark.parametrize("compiled", [False, True])  # the loop of TensorFlow, and the XLA loop
def test_the_loss_of_nearly_certain_logits_is_precise(compiled):
    """The loss over a thousand frames with probabilities near 1 is the sum of their small differences from 1."""
    specs = [tf.TensorSpec([None, 100], tf.int64), tf.TensorSpec([None, 1000, 3], tf.float32)]
    function = tf.function(ctc_loss, input_signature=specs, autograph=False) if compiled else ctc_loss
    labels = np.array([[1] + [-1] * 99, [1] * 100])
    for top in (10.0, 14.7, 20.0, 40.0):
        logits = np.zeros((2, 1000, 3), "float32")
        logits[:, :, 1] = top
        logits[1, ::10, 1], logits[1, ::10, 0] = 0, top  # "1" a hundred times
        loss = function(labels, logits).numpy()
        expected = [loss_and_gradient([1], logits[0], 0)[0], loss_and_gradient([1] * 100, logits[1], 0)[0]]
        np.testing.assert_allclose(loss, np.array(expected, "float64"), rtol=1e-4, atol=1e-9)
        assert (loss >= 0).all()


def test_an_offset_of_the_logits_changes_nothing():
    generator = np.random.default_rng(2)
    logits = generator.integers(-40, 40, (3, 30, 5)).astype("float32") / 8  # sums are exact in float32
    labels = generator.integers(1, 5, (3, 6))
    for found, expected in zip(gradient(labels, logits + 2**16), gradient(labels, logits), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("blank", [0, 2])
def test_certain_blanks_are_padding(blank):
    """Lengths and frames made by `certain_blank` are equivalent, even in impossible rows."""
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(4, 90, 4)).astype("float32")
    labels, lengths = np.array([[1, 3, 1], [3, 3, 1], [3, -1, -1], [1, 3, 1]]), np.array([70, 3, 40, 2])
    expected = gradient(labels, logits, logit_length=lengths, blank_index=blank, impossible="inf")
    assert np.isinf(expected[0]).tolist() == [False, True, False, True]
    certain = certain_blank(logits, np.arange(90) < lengths[:, None], blank)
    for found, right in zip(gradient(labels, certain, blank_index=blank, impossible="inf"), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="row 1"):
        ctc_loss(labels, certain, blank_index=blank, impossible="raise")


def test_upstream_gradients_weigh_rows():
    labels, logits = np.array([[1, 2], [2, 1]]), np.random.default_rng(1).normal(size=(2, 5, 3))
    _, slope = gradient(labels, logits)
    variable = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        weighted = tf.reduce_sum(ctc_loss(labels, variable) * tf.constant([3.0, 0.0], tf.float64))
    np.testing.assert_allclose(tape.gradient(weighted, variable), slope * [[[3.0]], [[0.0]]], atol=1e-12)


@pytest.mark.parametrize(("jit_compile", "shape"), [(False, "known"), (False, "unknown"), (True, "unknown")])
def test_all_execution_modes_agree(shape, jit_compile):
    """Long inputs of known shape use a loop compiled by XLA, others the loop of TensorFlow."""
    labels, logits, label_length, logit_length = hard_rows(np.random.default_rng(3), 12, 66, 5, 6)
    expected = gradient(labels, logits.astype("float64"), label_length, logit_length)

    def step(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = ctc_loss(labels, logits, label_length, logit_length)
        return loss, tape.gradient(loss, logits)

    free = [None, None] if shape == "unknown" else [12, 66]
    specs = [tf.TensorSpec([*free, 5]), tf.TensorSpec([None, None] if shape == "unknown" else [12, 6], tf.int64)]
    graph = tf.function(step, input_signature=specs, jit_compile=jit_compile, autograph=False)
    for found, right in zip(graph(logits, labels), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)
    text = str(graph.get_concrete_function().graph.as_graph_def())
    assert ("_XlaMustCompile" in text) == (shape == "known")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    logits = tf.cast(np.random.default_rng(5).normal(0, 5, (3, 40, 6)), dtype)
    labels = np.array([[1, 2, 3], [4, 4, -1], [5, 0, 0]])
    loss, slope = gradient(labels, logits)
    expected, expected_slope = gradient(labels, tf.cast(logits, "float64"))
    assert loss.dtype == "float32" and slope.dtype == tf.as_dtype(dtype).as_numpy_dtype
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(slope.astype("float64"), expected_slope, atol=2 ** (-7 if dtype == "bfloat16" else -10))


def test_no_transition_matrix_is_stored():
    """With 1000 states, a matrix for each of 4 rows would take 16 MB per frame."""
    labels = np.tile(np.arange(1, 500) % 7 + 1, (4, 1))
    loss, slope = gradient(labels, np.zeros((4, 600, 9), "float32"))
    assert np.isfinite(loss).all() and slope.shape == (4, 600, 9)
