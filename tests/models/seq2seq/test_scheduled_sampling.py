"""Tests of scheduled sampling: schedules, mixing and the callback."""

import keras
import numpy as np
import pytest

from keras_dl.models.seq2seq.scheduled_sampling import ScheduledSampling, mix, teacher_forcing_probability

from .parts import small_model


@pytest.mark.parametrize(
    ("kind", "rate", "expected"),
    [
        ("constant", 0.75, [0.75, 0.75, 0.75]),
        ("linear", 0.001, [1, 0.9, 0]),
        ("exponential", 0.99, [1, 0.99**100, 0.99**1000]),
        ("inverse_sigmoid", 50, [50 / 51, 50 / (50 + np.exp(2)), 50 / (50 + np.exp(20))]),
    ],
)
def test_schedules(kind, rate, expected):
    found = [teacher_forcing_probability(kind, step, rate) for step in (0, 100, 1000)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert teacher_forcing_probability(kind, 10**9, rate, least=0.8) == 0.8
    assert 0 <= teacher_forcing_probability(kind, 10**9, rate) <= 1


@pytest.mark.parametrize(
    ("kind", "rate", "message"),
    [
        ("sigmoid", 0.5, "`kind` must be one of constant, linear, exponential, inverse_sigmoid"),
        ("exponential", 1.5, "`rate` must be from 0 to 1 for 'exponential'. Received: 1.5"),
        ("inverse_sigmoid", 0.5, "`rate` must be from 1 to inf for 'inverse_sigmoid'"),
        ("linear", -1, "`rate` must be from 0 to 1 for 'linear'"),
    ],
)
def test_invalid_schedules(kind, rate, message):
    with pytest.raises(ValueError, match=message):
        ScheduledSampling(kind, rate)


def test_mixing():
    target = np.array([[2, 5, 6, 7], [2, 5, 0, 0]])
    predicted = np.array([[8, 9, 10, 11], [8, 9, 10, 11]])

    def mixed(probability, seed=0):
        return keras.ops.convert_to_numpy(mix(target, predicted, probability, seed))

    np.testing.assert_array_equal(mixed(0.0), target)
    # Each token is replaced by the prediction after its predecessor; the start token and padding are kept.
    np.testing.assert_array_equal(mixed(1.0), [[2, 8, 9, 10], [2, 8, 0, 0]])
    many = keras.ops.convert_to_numpy(mix(np.full((200, 50), 5), np.full((200, 50), 6), 0.3, seed=1))
    assert (many[:, 0] == 5).all() and abs((many[:, 1:] == 6).mean() - 0.3) < 0.02


def test_the_callback_requires_a_decoder_with_scheduled_sampling():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="scheduled_sampling=True"):
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0, callbacks=[ScheduledSampling("constant", 0.5)])


@pytest.mark.parametrize("kind", ["additive", pytest.param("transformer", marks=pytest.mark.slow)])
def test_mixed_precision(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(kind, scheduled_sampling=True)
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    x = {"source": np.array([[4, 5, 0]] * 2), "target": np.array([[2, 4, 5, 0]] * 2)}
    schedule = ScheduledSampling("constant", 0.7)
    assert np.isfinite(model.fit(x, x["target"], verbose=0, callbacks=[schedule]).history["loss"]).all()
    np.testing.assert_allclose(float(model.decoder.sampling_probability), 0.3, rtol=1e-6)  # not rounded to 8 bits
