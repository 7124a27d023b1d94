"""FramewiseCrossEntropy: weights over time, masks, one class for a sequence, configuration, and training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.losses import FramewiseCrossEntropy

WEIGHTS = ["all", "last", "ramp"]


def masked(values, mask):
    tensor = tf.constant(values)
    tensor._keras_mask = tf.constant(mask)
    return tensor


def textbook(labels, scores, weights):
    """Returns the loss of one row in float64, over the steps whose label is not negative."""
    steps = [t for t, label in enumerate(labels) if label >= 0]
    share = {"all": [1] * len(steps), "last": [0] * (len(steps) - 1) + [1], "ramp": range(1, len(steps) + 1)}[weights]
    total = 0.0
    for part, t in zip(share, steps, strict=False):
        row = scores[t].astype("float64")
        total += part / sum(share) * (np.log(np.exp(row - row.max()).sum()) + row.max() - row[labels[t]])
    return total


def batch(generator, rows=6, frames=7, classes=4):
    """Draws logits, labels and lengths, with invalid values in padding."""
    logits = generator.normal(0, 3, (rows, frames, classes)).astype("float32")
    labels = generator.integers(0, classes, (rows, frames))
    lengths = np.array([frames, 0, 1, *generator.integers(0, frames + 1, rows - 3)])
    inside = np.arange(frames) < lengths[:, None]
    logits[~inside] = generator.choice([np.nan, np.inf, -1e30], (np.sum(~inside), classes))
    return logits, labels, inside


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_loss_is_the_weighted_mean_of_each_row(weights):
    generator = np.random.default_rng(0)
    for _ in range(5):
        logits, labels, inside = batch(generator)
        padded = np.where(inside, labels, -1)
        expected = [textbook(*row, weights) for row in zip(padded, logits, strict=True)]
        loss = FramewiseCrossEntropy(weights, reduction=None)
        np.testing.assert_allclose(loss(padded, logits), expected, rtol=1e-5)
        np.testing.assert_allclose(loss(labels, masked(logits, inside)), expected, rtol=1e-5)
        np.testing.assert_allclose(FramewiseCrossEntropy(weights)(padded, logits), np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_one_class_is_the_target_of_every_step(weights):
    logits, _, inside = batch(np.random.default_rng(1))
    classes = np.array([3, 0, 1, 2, 0, 1])
    expected = [
        textbook(np.where(row, label, -1), scores, weights)
        for row, label, scores in zip(inside, classes, logits, strict=True)
    ]
    loss = FramewiseCrossEntropy(weights, reduction=None)
    for given in (classes, classes[:, None], classes.astype("uint8")):
        np.testing.assert_allclose(loss(given, masked(logits, inside)), expected, rtol=1e-5)


def test_steps_without_a_label_are_ignored():
    logits = np.random.default_rng(2).normal(size=(1, 5, 3)).astype("float32")
    labels = np.array([[-1, 2, -1, 0, -1]])
    for weights in WEIGHTS:
        loss = FramewiseCrossEntropy(weights)
        np.testing.assert_allclose(loss(labels, logits), textbook(labels[0], logits[0], weights), rtol=1e-5)
        np.testing.assert_allclose(loss(labels, logits), loss(np.array([[2, 0]]), logits[:, [1, 3]]), rtol=1e-6)


def test_probabilities_and_logits_agree():
    logits, labels, inside = batch(np.random.default_rng(3))
    with np.errstate(invalid="ignore"):
        probabilities = np.where(inside[..., None], tf.nn.softmax(logits), np.nan)
    expected = FramewiseCrossEntropy("ramp")(labels, masked(logits, inside))
    loss = FramewiseCrossEntropy("ramp", from_logits=False)
    np.testing.assert_allclose(loss(labels, masked(probabilities, inside)), expected, rtol=1e-4)


@pytest.mark.parametrize(("weights", "jit"), [("all", False), ("last", False), ("ramp", True)])
def test_the_gradient_matches_the_definition_and_is_zero_in_padding(weights, jit):
    logits, labels, inside = batch(np.random.default_rng(4))

    @tf.function(jit_compile=jit, autograph=False)
    def gradient(labels, logits, inside):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            scores = tf.identity(logits)
            scores._keras_mask = inside
            loss = FramewiseCrossEntropy(weights, reduction="sum")(labels, scores)
        return tape.gradient(loss, logits)

    found = gradient(tf.constant(labels), tf.constant(logits), tf.constant(inside)).numpy()
    np.testing.assert_array_equal(found[~inside], 0)
    number = np.arange(1, 8)
    share = {"all": inside, "last": number == inside.sum(1, keepdims=True), "ramp": number * inside}[weights] * 1.0
    share /= np.maximum(share.sum(1, keepdims=True), 1)
    clean = np.where(inside[..., None], logits, 0).astype("float64")
    softmax = np.exp(clean) / np.exp(clean).sum(-1, keepdims=True)
    expected = share[..., None] * (softmax - np.eye(4)[labels])
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6)


def test_sample_weights_apply_to_rows():
    logits, labels, inside = batch(np.random.default_rng(5))
    each = FramewiseCrossEntropy(reduction=None)(labels, masked(logits, inside)).numpy()
    weights = np.array([0.5, 1, 0, 2, 1, 3], "float32")
    for given in (weights, weights[:, None]):
        loss = FramewiseCrossEntropy()(labels, masked(logits, inside), given)
        np.testing.assert_allclose(loss, np.sum(each * weights) / 6, rtol=1e-6)
    with pytest.raises(ValueError, match="Expected `sample_weight`"):
        FramewiseCrossEntropy()(labels, logits, np.ones((6, 7)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    logits = tf.cast(np.random.default_rng(6).normal(0, 3, (2, 300, 400)), dtype)
    labels = np.random.default_rng(7).integers(0, 400, (2, 300))
    loss = FramewiseCrossEntropy(reduction=None)(labels, logits)
    wide = tf.cast(logits, tf.float32).numpy()
    np.testing.assert_allclose(loss, [textbook(*row, "all") for row in zip(labels, wide, strict=True)], rtol=1e-5)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="all, last, ramp. Received: 'first'"):
        FramewiseCrossEntropy("first")
    for shapes in [
        ((2, 3, 1), (2, 3, 4)),
        ((2,), (2, 4)),
        ((1,), (2, 3, 4)),
        ((1, 3), (2, 3, 4)),
        ((3,), (2, 3, 4)),
        ((2, 2), (2, 3, 4)),
    ]:
        with pytest.raises(ValueError, match="Expected y_true"):
            FramewiseCrossEntropy()(np.zeros(shapes[0], int), np.zeros(shapes[1], "float32"))


def test_a_class_out_of_range():
    logits, classes = tf.zeros((2, 3, 4)), tf.constant([1, 4])
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="outside the valid range"):
            FramewiseCrossEntropy()(classes, logits)
    compiled = tf.function(FramewiseCrossEntropy(reduction=None), jit_compile=True)
    np.testing.assert_allclose(compiled(classes, logits), [np.log(4), np.nan], rtol=1e-6)


def test_configuration_round_trip():
    loss = FramewiseCrossEntropy("ramp", from_logits=False, reduction="sum", name="steps")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, FramewiseCrossEntropy)
    assert again.get_config() == loss.get_config()
    assert (again.weights, again.from_logits, again.name) == ("ramp", False, "steps")


@pytest.mark.slow
def test_trains_with_a_mask_and_one_class_per_sequence():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(8)
    classes = generator.integers(0, 2, 64)
    inputs = np.where(np.arange(6)[:, None] < 4, generator.normal(0, 0.3, (64, 6, 3)) + classes[:, None, None] + 1, 0)
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Masking(),
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), FramewiseCrossEntropy("ramp"))
    history = model.fit(inputs.astype("float32"), classes, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert history[-1] < 0.1 < 0.5 < history[0]


def test_a_model_passes_its_mask():
    inputs, classes = np.random.default_rng(9).normal(size=(4, 6, 3)).astype("float32"), np.array([0, 1, 1, 0])
    mask = np.arange(6) < np.array([[6], [3], [1], [5]])
    inputs[~mask] = 0
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), keras.layers.Dense(2)])
    model.compile("sgd", FramewiseCrossEntropy("ramp"), run_eagerly=True)
    expected = FramewiseCrossEntropy("ramp")(classes, masked(model(inputs).numpy(), mask))
    assert model.evaluate(inputs, classes, verbose=0) == pytest.approx(float(expected), rel=1e-5)
    assert model.train_on_batch(inputs, classes) > model.evaluate(inputs, classes, verbose=0)
