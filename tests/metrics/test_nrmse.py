import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.metrics import NRMSE

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.normal(3, 2, (6, 5, 2)) * [1, 50]
PREDICTED = TRUTH + GENERATOR.normal(0, 0.3, TRUTH.shape) * [1, 50]


def by_hand(truth, predicted):
    truth, predicted = (np.asarray(values).reshape(-1, np.shape(values)[-1]) for values in (truth, predicted))
    return np.sqrt(np.mean(np.mean((truth - predicted) ** 2, axis=0) / truth.var(axis=0)))


def score(truth=TRUTH, predicted=PREDICTED, weights=None, parts=1):
    metric = NRMSE()
    split = [np.array_split(values, parts) for values in (truth, predicted)]
    weights = [None] * parts if weights is None else np.array_split(weights, parts)
    for y_true, y_pred, weight in zip(*split, weights, strict=True):
        metric.update_state(y_true, y_pred, weight)
    return float(metric.result())


def test_nrmse_by_hand():
    assert score() == pytest.approx(by_hand(TRUTH, PREDICTED), rel=1e-5)
    assert score(TRUTH[..., :1], PREDICTED[..., :1]) == pytest.approx(
        np.sqrt(np.mean((TRUTH - PREDICTED)[..., 0] ** 2)) / TRUTH[..., 0].std(), rel=1e-5
    )


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_the_batch_size_does_not_matter(parts):
    assert score(parts=parts) == pytest.approx(score(), rel=1e-5)


def test_the_mean_of_the_targets_scores_one():
    assert score(predicted=np.broadcast_to(TRUTH.mean(axis=(0, 1)), TRUTH.shape)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 10.0, [7.0, 0.01]])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_units_do_not_matter(scale, shift):
    assert score(TRUTH * scale + shift, PREDICTED * scale + shift) == pytest.approx(score(), rel=1e-3)


def test_large_means_keep_precision():
    """The difference of the sum of squares and the square of the sum would be NaN here."""
    assert score(TRUTH[..., :1] + 10_000, PREDICTED[..., :1] + 10_000, parts=6) == pytest.approx(
        score(TRUTH[..., :1], PREDICTED[..., :1]), rel=1e-2
    )


def test_weights_equal_repetitions():
    weights = np.array([1, 2, 0, 1, 0, 3])
    predicted = PREDICTED.copy()
    predicted[weights == 0] = np.nan
    expected = by_hand(TRUTH.repeat(weights, axis=0), PREDICTED.repeat(weights, axis=0))
    assert score(predicted=predicted, weights=weights, parts=2) == pytest.approx(expected, rel=1e-5)
    each = np.broadcast_to(weights[:, None], TRUTH.shape[:2])
    assert score(predicted=predicted, weights=each) == pytest.approx(expected, rel=1e-5)


def test_masked_positions_are_ignored():
    metric, predicted = NRMSE(), tf.where(tf.range(5)[:, None] < 3, PREDICTED, np.nan)
    predicted._keras_mask = tf.broadcast_to(tf.range(5) < 3, (6, 5))
    metric.update_state(TRUTH, predicted)
    assert float(metric.result()) == pytest.approx(by_hand(TRUTH[:, :3], PREDICTED[:, :3]), rel=1e-5)


def test_any_error_is_infinite_for_constant_targets():
    assert score(np.ones((3, 2)), np.ones((3, 2))) == 0
    assert score(np.ones((3, 2)), np.zeros((3, 2))) == np.inf


def test_reset_state():
    metric = NRMSE()
    assert float(metric.result()) == 0
    metric.update_state(TRUTH, PREDICTED + 100)
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(TRUTH, PREDICTED)
    assert float(metric.result()) == pytest.approx(score())


def test_in_a_model_of_any_length():
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile(loss="mse", metrics=[NRMSE()])
    data = tf.data.Dataset.from_tensor_slices((PREDICTED, TRUTH)).batch(4)
    for _ in range(2):
        assert model.evaluate(data, verbose=0, return_dict=True)["nrmse"] == pytest.approx(score(), rel=1e-5)


def test_config():
    metric = keras.metrics.deserialize(keras.metrics.serialize(NRMSE(name="error", dtype="float64")))
    assert (metric.name, metric.dtype) == ("error", "float64")


def test_nan_is_never_perfect():
    metric = NRMSE()
    metric.update_state(np.array([[np.nan], [1.0]]), np.array([[0.0], [5.0]]))
    assert np.isnan(float(metric.result()))
