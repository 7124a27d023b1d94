"""CTCLoss: masks, weights, reductions, configuration, and training."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import CTCOutput
from keras_dl.losses import CTCLoss
from keras_dl.ops.ctc import ctc_loss

LABELS = np.array([[1, 2], [2, -1], [1, 1]])


def logits(batch=3, frames=6, classes=3, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, frames, classes)).astype("float32")


def masked(values, mask):
    tensor = tf.constant(values)
    tensor._keras_mask = tf.constant(mask)
    return tensor


def test_the_loss_is_the_mean_over_the_batch():
    np.testing.assert_allclose(CTCLoss()(LABELS, logits()), np.mean(ctc_loss(LABELS, logits())), rtol=1e-6)


def test_two_uniform_frames():
    loss = CTCLoss(reduction=None)(np.array([[1], [-1]]), np.zeros((2, 2, 3), "float32"))
    np.testing.assert_allclose(loss, [np.log(3), np.log(9)], rtol=1e-5)  # 11, 1- and -1 of nine paths; only --


@pytest.mark.parametrize("frames", [3, 4, 7])  # Keras' own loss is silently wrong if B == T
@pytest.mark.parametrize("blank_index", [0, 2])
def test_masked_frames_are_ignored(frames, blank_index):
    labels = np.array([[1], [1], [-1]]) if blank_index else np.array([[1], [2], [0]])
    values = logits(frames=frames)
    lengths = np.array([frames, frames - 1, 1])
    mask = np.arange(frames) < lengths[:, None]
    values[~mask] = np.nan
    expected = [
        ctc_loss(labels[i : i + 1], values[i : i + 1, :length], blank_index=blank_index)[0]
        for i, length in enumerate(lengths)
    ]
    loss = CTCLoss(blank_index, reduction=None)(labels, masked(values, mask))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(CTCLoss(blank_index)(labels, masked(values, mask)), np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("frames", [3, 6])
def test_sample_weights_apply_to_sequences(frames):
    values, weights = logits(frames=frames), np.array([0.5, 0.0, 2.0], "float32")
    each = ctc_loss(LABELS, values).numpy()
    expected = np.sum(weights * each) / 3
    np.testing.assert_allclose(CTCLoss()(LABELS, values, weights), expected, rtol=1e-6)
    everywhere = masked(values, np.ones((3, frames), bool))
    np.testing.assert_allclose(CTCLoss()(LABELS, everywhere, weights), expected, rtol=1e-6)
    np.testing.assert_allclose(CTCLoss(reduction="sum")(LABELS, values, weights), expected * 3, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_large_labels_are_exact_in_half_precision(dtype):
    values = np.zeros((1, 2, 2100), "float32")
    values[0, :, 2049] = 20
    loss = CTCLoss(dtype=dtype)
    assert loss(np.array([[2049]]), values) < 1e-4
    assert (loss.dtype, keras.losses.deserialize(keras.losses.serialize(loss)).dtype) == ("float32", "float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_padding_does_not_make_short_rows_possible(policy):
    frames = keras.Input((None, 2))
    x = keras.layers.Masking()(frames)
    for output in (
        CTCOutput(3, dtype=policy),
        keras.layers.Dense(4, dtype=policy),
    ):  # the second one passes the mask on
        model = keras.Model(frames, output(x))
        model.compile(keras.optimizers.SGD(0.1), CTCLoss(), run_eagerly=True)
        values = np.random.default_rng(0).normal(size=(2, 8, 2)).astype("float32")
        values[0, 2:] = 0  # two frames for four labels
        labels = np.array([[1, 2, 3, 1]] * 2)
        alone = model.evaluate(values[1:], labels[1:], verbose=0)
        np.testing.assert_allclose(model.evaluate(values, labels, verbose=0), alone / 2, rtol=1e-3)


def test_half_precision_logits_are_computed_in_float32():
    half = tf.cast(logits(), "float16")
    loss = CTCLoss()(LABELS, half)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, CTCLoss()(LABELS, tf.cast(half, "float32")), rtol=1e-6)


def test_config_round_trip():
    loss = CTCLoss(blank_index=2, impossible="inf", label_smoothing=0.25, reduction="sum", name="other")
    twin = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(twin, CTCLoss)
    assert (twin.blank_index, twin.impossible, twin.label_smoothing) == (2, "inf", 0.25)
    assert (twin.reduction, twin.name) == ("sum", "other")
    values, labels = logits(), np.array([[0, 1], [1, 2], [0, 0]])
    np.testing.assert_array_equal(twin(labels, values), loss(labels, values))


def entropies(values):
    probability = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
    return -(probability * np.log(probability)).sum(axis=(1, 2))


def test_label_smoothing_rewards_entropy():
    values = logits().astype("float64")
    expected = 0.9 * ctc_loss(LABELS, values).numpy() - 0.1 * entropies(values)
    found = CTCLoss(label_smoothing=0.1, reduction=None)(LABELS, values.astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_label_smoothing_ignores_padding():
    values = logits(frames=5)
    longer = np.concatenate([values, np.full((3, 4, 3), np.nan, "float32")], axis=1)
    loss = CTCLoss(label_smoothing=0.3, reduction=None)
    mask = np.tile(np.arange(9) < 5, (3, 1))
    np.testing.assert_allclose(loss(LABELS, masked(longer, mask)), loss(LABELS, values), rtol=1e-5)

    def slope(values):
        values = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(loss(LABELS, masked(values, mask) if values.shape[1] == 9 else values))
        return tape.gradient(total, values).numpy()

    np.testing.assert_allclose(slope(longer), np.pad(slope(values), [[0, 0], [0, 4], [0, 0]]), atol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_impossible_rows(label_smoothing):
    values = tf.constant(logits(frames=2))  # 1 - 1 needs three frames
    for impossible, expected in (("zero", 0), ("inf", np.inf)):
        function = CTCLoss(impossible=impossible, label_smoothing=label_smoothing, reduction=None)
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = function(LABELS, values)
        assert loss[2] == expected
        assert np.isfinite(loss[:2]).all() and (loss[:2] != 0).numpy().all()
        slope = tape.gradient(loss, values).numpy()
        assert np.isfinite(slope).all() and slope[:2].any() and not slope[2].any()
    with pytest.raises(ValueError, match=r"row 2: .* = \[2 3\]"):
        CTCLoss(impossible="raise", label_smoothing=label_smoothing)(LABELS, values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"impossible": "skip"}, "one of zero, inf, raise. Received: 'skip'"),
        ({"label_smoothing": 1.0}, r"must be in \[0, 1\). Received: 1.0"),
        ({"label_smoothing": -0.1}, "Received: -0.1"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        CTCLoss(**arguments)


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("mixed_float16", {"run_eagerly": True}),
        ("mixed_bfloat16", {"run_eagerly": True}),
        pytest.param("mixed_float16", {"jit_compile": True}, marks=pytest.mark.slow),
    ],
)
def test_a_model_in_mixed_precision_trains(policy, options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(3, dtype=policy)])
    model.compile(keras.optimizers.Adam(0.05), CTCLoss(), **options)
    frames = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")
    history = model.fit(frames, LABELS, batch_size=3, epochs=3, verbose=0).history["loss"]
    assert history[0] > history[2] > 0


def masked_model(mask_value, **options):
    keras.utils.set_random_seed(7)
    frames = keras.Input((None, 2))
    x = keras.layers.Masking(mask_value)(frames)
    x = keras.layers.Dense(5, "tanh")(x)
    model = keras.Model(frames, keras.layers.Dense(3, bias_initializer="ones")(x))
    model.compile(keras.optimizers.SGD(0.1), CTCLoss(), **options)
    return model


def test_padding_does_not_change_training():
    generator, model = np.random.default_rng(3), masked_model(-5, run_eagerly=True)
    initial, labels = model.get_weights(), np.array([[1], [2], [1], [2]])
    for length, padding in ((6, 4), (3, 1)):  # the last: as many frames as rows
        frames = generator.normal(size=(4, length, 2)).astype("float32")
        losses, weights = [], []
        for values in (frames, np.pad(frames, [[0, 0], [0, padding], [0, 0]], constant_values=-5)):
            model.set_weights(initial)
            history = model.fit(values, labels, batch_size=4, epochs=2, verbose=0, shuffle=False).history
            losses.append(history["loss"])
            weights.append(model.get_weights())
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
        assert losses[0][1] < losses[0][0]
        for a, b in zip(*weights, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-5)


def test_rows_of_different_lengths_have_the_loss_of_single_rows():
    generator = np.random.default_rng(4)
    frames, labels = generator.normal(size=(4, 4, 2)).astype("float32"), np.array([[1], [2], [1], [2]])
    lengths, model = [4, 3, 2, 1], masked_model(-5, run_eagerly=True)  # B == T
    expected = []
    for row, length in enumerate(lengths):
        frames[row, length:] = -5
        expected.append(model.evaluate(frames[row : row + 1, :length], labels[row : row + 1], verbose=0))
    loss = model.evaluate(frames, labels, batch_size=4, verbose=0)
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-4)


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from keras_dl.layers import CTCOutput
from keras_dl.losses import CTCLoss

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
generator = np.random.default_rng(0)
frames = generator.normal(size=(8, 70, 2)).astype("float32")
labels = generator.integers(1, 3, (8, 4))
weights = generator.uniform(size=8).astype("float32")
results = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((70, 2)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.01), CTCLoss())
    history = model.fit(frames, labels, batch_size=8, epochs=2, sample_weight=weights, shuffle=False, verbose=0)
    results.append([*history.history["loss"], *model.get_weights()[0].ravel()])
assert strategy.num_replicas_in_sync == 2
np.testing.assert_allclose(*results, rtol=1e-4)
"""


@pytest.mark.slow
def test_two_replicas_train_as_one():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run([sys.executable, "-c", TWO_REPLICAS], env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.fixture
def first_warning(monkeypatch):
    """Lets the warning be given again."""
    monkeypatch.setattr("keras_dl.ops.ctc.impossible._warned", set())


@pytest.mark.parametrize("where", ["function", "loss", "fit", "graph", "masked"])
def test_impossible_rows_warn_once(where, first_warning):
    labels, x = np.array([[1, 2], [2, 2], [1, -1]]), logits(3, frames=2)

    def run():
        if where == "function":
            ctc_loss(labels, x)
        elif where == "loss":
            CTCLoss()(labels, x)
        elif where == "masked":
            CTCLoss()(labels, masked(logits(3, frames=5), np.arange(5) < np.array([[2], [2], [2]])))
        elif where == "graph":
            tf.function(CTCLoss())(tf.constant(labels), tf.constant(x))
        else:
            model = keras.Sequential([keras.Input((2, 3)), keras.layers.Dense(3)])
            model.compile("sgd", CTCLoss(), jit_compile=False)
            model.fit(x, labels, epochs=2, verbose=0)

    expected = "1 of 3 rows .* those of row 1 require 3 frames, and it has 2.*ImpossibleRows"
    with pytest.warns(UserWarning, match=expected) as said:
        run()
        run()
    assert sum("CTC" in str(each.message) for each in said) == 1


def test_other_rows_do_not_warn(first_warning, recwarn):
    CTCLoss()(LABELS, logits(frames=4))
    CTCLoss(impossible="inf")(LABELS, logits(frames=1))
    assert not [each for each in recwarn if "CTC" in str(each.message)]


@pytest.mark.parametrize("impossible", ["zero", "inf"])
def test_smoothing_keeps_the_loss_of_impossible_rows(impossible):
    found = CTCLoss(impossible=impossible, label_smoothing=0.1, reduction=None)(LABELS, logits(frames=2))
    assert np.isfinite(found[:2]).all() and found[2] == (0 if impossible == "zero" else np.inf)
