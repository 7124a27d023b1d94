"""Properties of all metrics of greedy CTC decodings."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.metrics import LabelErrorRate, SequenceAccuracy, WordErrorRate

WORDS = ["a", " ", "b"]  # classes 1, 2, 3
METRICS = [LabelErrorRate, SequenceAccuracy, lambda **options: WordErrorRate(WORDS, **options)]
PERFECT = {"label_error_rate": 0, "sequence_accuracy": 1, "word_error_rate": 0}
every_metric = pytest.mark.parametrize("make", METRICS, ids=list(PERFECT))


def path_logits(*paths):
    return np.eye(4, dtype="float32")[list(paths)] * 9


@every_metric
def test_masked_frames_are_ignored_even_with_nan(make):
    logits, metric = path_logits([1, 2, 3, 3], [3, 1, 1, 1]), make()
    logits[0, 3], logits[1, :2] = path_logits([1])[0], np.nan
    tensor = tf.constant(logits)
    tensor._keras_mask = tf.constant([[True, True, True, False], [False, False, True, True]])
    metric.update_state(np.array([[1, 2, 3], [1, -1, 0]]), tensor)
    assert metric.result() == PERFECT[metric.name]
    metric.update_state(np.array([[1, 2, 3], [3, 1, 0]]), tensor)
    assert metric.result() != PERFECT[metric.name]


@every_metric
def test_reset_state(make):
    metric = make()
    assert metric.result() == 0
    metric.update_state(np.array([[1, 2, 3]]), path_logits([3, 2, 3]))
    wrong = float(metric.result())
    assert wrong != PERFECT[metric.name]
    metric.reset_state()
    assert metric.result() == 0
    metric.update_state(np.array([[1, 2, 3]]), path_logits([1, 2, 3]))
    assert metric.result() == PERFECT[metric.name]


@every_metric
def test_config(make):
    metric = make(blank_index=3, name="other", dtype="float64")
    twin = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (type(twin), twin.blank_index, twin.name, twin.dtype) == (type(metric), 3, "other", "float64")
    assert twin.get_config() == metric.get_config()


@every_metric
def test_sample_weights_raise(make):
    metric = make()
    with pytest.raises(ValueError, match=f"{type(metric).__name__} counts .* does not support `sample_weight`"):
        metric.update_state(np.array([[1]]), path_logits([1]), sample_weight=np.array([1.0]))


def test_the_batch_size_does_not_matter():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(9, 8, 4)).astype("float32"), generator.integers(-1, 4, (9, 5))
    whole = [make() for make in METRICS]
    for metric in whole:
        metric.update_state(labels, logits)
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Identity()])
    model.compile(
        loss=lambda y_true, y_pred: 0.0 * y_pred[:, 0, 0], metrics=[make() for make in METRICS], run_eagerly=True
    )
    for batch_size in (1, 3, 4):
        found = model.evaluate(logits, labels, batch_size=batch_size, verbose=0, return_dict=True)
        for metric in whole:
            assert found[metric.name] == pytest.approx(float(metric.result()))


@every_metric
def test_no_rows_and_no_labels(make):
    metric = make()
    metric.update_state(np.zeros((0, 3), "int32"), np.zeros((0, 5, 4), "float32"))
    assert metric.result() == 0
    metric.update_state(np.zeros((2, 0), "int32"), path_logits([0, 0], [0, 0]))
    assert metric.result() == PERFECT[metric.name]


@pytest.mark.slow  # the decoding and the edit distance have their own XLA tests
def test_a_model_compiled_by_xla():
    model = keras.Sequential([keras.Input((8, 4)), keras.layers.Dense(4)])
    model.compile(
        "sgd",
        lambda y_true, y_pred: keras.ops.mean(y_pred, (1, 2)),
        metrics=[LabelErrorRate(), SequenceAccuracy()],
        jit_compile=True,
    )
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(4, 8, 4)).astype("float32"), generator.integers(-1, 4, (4, 3))
    found = model.evaluate(logits, labels, batch_size=4, verbose=0, return_dict=True)
    for metric in (LabelErrorRate(), SequenceAccuracy()):
        metric.update_state(labels, model(logits))
        assert found[metric.name] == pytest.approx(float(metric.result()))
