"""SequenceCrossEntropy: the mean over labels, padding, smoothing, configuration, and training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.losses import SequenceCrossEntropy


def masked(values, mask):
    tensor = tf.constant(values)
    tensor._keras_mask = tf.constant(mask)
    return tensor


def batch(generator, lengths=(5, 0, 1, 3), classes=4):
    """Draws labels and logits, with invalid values in padding, and the mask of valid steps."""
    steps = max(lengths)
    inside = np.arange(steps) < np.array(lengths)[:, None]
    labels = np.where(inside, generator.integers(1, classes, inside.shape), 0)
    logits = generator.normal(0, 3, (*inside.shape, classes)).astype("float32")
    logits[~inside] = generator.choice([np.nan, np.inf, -np.inf, -1e30], (np.sum(~inside), classes))
    return labels, logits, inside


def textbook(labels, logits, smoothing=0.0):
    """Returns the loss of every label, `[B, T]`, in float64, 0 at padding."""
    losses = np.zeros(labels.shape)
    for place, label in np.ndenumerate(labels):
        if label:
            scores = logits[place].astype("float64")
            log_probability = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
            losses[place] = -(1 - smoothing) * log_probability[label] - smoothing * log_probability.mean()
    return losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_loss_is_the_mean_over_the_labels_of_the_batch(smoothing):
    labels, logits, inside = batch(np.random.default_rng(0))
    expected = textbook(labels, logits, smoothing)
    loss = SequenceCrossEntropy(smoothing)
    np.testing.assert_allclose(loss(labels, logits), expected.sum() / inside.sum(), rtol=1e-5)
    np.testing.assert_allclose(SequenceCrossEntropy(smoothing, "sum")(labels, logits), expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(SequenceCrossEntropy(smoothing, None)(labels, logits), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", None, "mean_with_sample_weight"])
def test_more_padding_changes_nothing(reduction):
    labels, logits, _ = batch(np.random.default_rng(1))
    longer = np.pad(logits, [[0, 2], [0, 3], [0, 0]], constant_values=np.nan)
    loss = SequenceCrossEntropy(0.1, reduction)
    found, expected = loss(np.pad(labels, [[0, 2], [0, 3]]), longer).numpy(), loss(labels, logits).numpy()
    np.testing.assert_allclose(found if reduction else found[:4, :5], expected, rtol=1e-6)


def test_masked_logits_are_padding():
    labels, logits, inside = batch(np.random.default_rng(2))
    junk = np.where(inside, labels, 3)
    for reduction in ("sum_over_batch_size", "sum", None):
        loss = SequenceCrossEntropy(reduction=reduction)
        np.testing.assert_allclose(loss(junk, masked(logits, inside)), loss(labels, logits), rtol=1e-6)


def test_a_batch_of_only_padding_has_loss_zero():
    assert SequenceCrossEntropy(0.1)(np.zeros((2, 3), int), np.full((2, 3, 4), np.nan, "float32")) == 0


@pytest.mark.parametrize(("smoothing", "jit"), [(0.0, False), (0.2, True)])
def test_the_gradient_matches_the_definition_and_is_zero_in_padding(smoothing, jit):
    labels, logits, inside = batch(np.random.default_rng(3))

    @tf.function(jit_compile=jit)
    def gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = SequenceCrossEntropy(smoothing)(labels, logits)
        return tape.gradient(loss, logits)

    found = gradient(tf.constant(labels), tf.constant(logits)).numpy()
    np.testing.assert_array_equal(found[~inside], 0)
    softmax = tf.nn.softmax(logits[inside].astype("float64")).numpy()
    target = (1 - smoothing) * np.eye(4)[labels[inside]] + smoothing / 4
    np.testing.assert_allclose(found[inside], (softmax - target) / inside.sum(), atol=1e-6)


def test_weights_multiply_and_do_not_divide():
    labels, logits, inside = batch(np.random.default_rng(4))
    losses, rows = textbook(labels, logits), np.array([0.5, 1, 0, 2])
    loss = SequenceCrossEntropy()(labels, logits, rows)
    np.testing.assert_allclose(loss, (losses * rows[:, None]).sum() / inside.sum(), rtol=1e-5)
    each = np.random.default_rng(5).uniform(size=labels.shape)
    np.testing.assert_allclose(
        SequenceCrossEntropy()(labels, logits, each), (losses * each).sum() / inside.sum(), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    generator = np.random.default_rng(6)
    logits, labels = tf.cast(generator.normal(0, 3, (2, 300, 400)), dtype), generator.integers(1, 400, (2, 300))
    expected = textbook(labels, tf.cast(logits, tf.float32).numpy(), 0.1).mean()
    np.testing.assert_allclose(SequenceCrossEntropy(0.1)(labels, logits), expected, rtol=1e-5)


def test_invalid_arguments_raise():
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"must be in \[0, 1\). Received: {smoothing}"):
            SequenceCrossEntropy(smoothing)
    for shapes in [
        ((2,), (2, 3, 4)),
        ((2, 3), (2, 4)),
        ((2, 2), (2, 3, 4)),
        ((1, 3), (2, 3, 4)),
        ((2, 3, 1), (2, 3, 4)),
    ]:
        with pytest.raises(ValueError, match="Expected y_true"):
            SequenceCrossEntropy()(np.ones(shapes[0], int), np.zeros(shapes[1], "float32"))
    for shape in [(3,), (2, 4), (2, 3, 1)]:
        with pytest.raises(ValueError, match="Expected `sample_weight`"):
            SequenceCrossEntropy()(np.ones((2, 3), int), np.zeros((2, 3, 4), "float32"), np.ones(shape))


def test_configuration_round_trip():
    loss = SequenceCrossEntropy(0.1, reduction="sum", name="labels")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, SequenceCrossEntropy)
    assert again.get_config() == loss.get_config()
    assert (again.label_smoothing, again.reduction, again.name) == (0.1, "sum", "labels")


@pytest.mark.slow
def test_trains_on_rows_of_different_lengths():
    generator = np.random.default_rng(7)
    lengths = generator.integers(1, 7, (64, 1))
    labels = np.where(np.arange(6) < lengths, generator.integers(1, 5, (64, 6)), 0)
    model = keras.Sequential(
        [keras.Input((None,)), keras.layers.Embedding(5, 8, mask_zero=True), keras.layers.Dense(5)]
    )
    model.compile(keras.optimizers.Adam(0.1), SequenceCrossEntropy())
    history = model.fit(labels, labels, epochs=20, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.05 < 0.5 < history[0]
    assert model.evaluate(labels, labels, verbose=0) == pytest.approx(history[-1], abs=0.05)


def test_a_model_passes_its_mask():
    inputs, labels = np.array([[1, 2, 3, 4], [2, 0, 0, 0], [3, 1, 0, 0]]), np.array([[1] * 4, [2] * 4, [3] * 4])
    model = keras.Sequential(
        [keras.Input((None,)), keras.layers.Embedding(5, 8, mask_zero=True), keras.layers.Dense(5)]
    )
    model.compile("sgd", SequenceCrossEntropy(), run_eagerly=True)
    expected = SequenceCrossEntropy()(np.where(inputs, labels, 0), model(inputs).numpy())
    assert model.evaluate(inputs, labels, verbose=0) == pytest.approx(float(expected), rel=1e-5)
    assert model.train_on_batch(inputs, labels) > model.evaluate(inputs, labels, verbose=0)
