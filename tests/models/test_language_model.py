import keras
import numpy as np
import pytest

from keras_dl.models import language_model, one_step


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return language_model(vocabulary=11, embedding=4, units=6, depth=2, dropout=0.5)


def test_logits_do_not_depend_on_later_ids(model):
    ids = np.array([[1, 2, 3, 4], [1, 2, 9, 8]])
    logits = model(ids).numpy()
    assert logits.shape == (2, 4, 11)
    np.testing.assert_allclose(logits[0, :2], logits[1, :2], atol=1e-6)
    assert np.abs(logits[0, 2:] - logits[1, 2:]).max() > 1e-4


@pytest.mark.parametrize("depth", [1, 3])
def test_single_steps_equal_the_whole_sequence(depth):
    model = language_model(vocabulary=11, embedding=4, units=6, depth=depth, dropout=0.5)
    ids = np.random.default_rng(0).integers(11, size=(3, 9))
    step, start = one_step(model)
    state, rows = start(3), []
    for column in ids.T:
        logits, state = step(column, state)
        rows.append(logits)
    np.testing.assert_allclose(np.stack(rows, axis=1), model(ids), atol=1e-5)


def test_save_and_load(model, tmp_path):
    ids = np.arange(10)[None]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ids), model(ids))
    logits, _ = one_step(loaded)[0](ids[:, 0], one_step(loaded)[1](1))
    np.testing.assert_allclose(logits, model(ids)[:, 0], atol=1e-5)


@pytest.mark.slow
def test_learns_a_repetition():
    keras.utils.set_random_seed(0)
    model = language_model(vocabulary=5, embedding=8, units=16, dropout=0.0)
    ids = np.tile([1, 2, 3, 4], [8, 5])
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ids[:, :-1], ids[:, 1:], epochs=40, verbose=0)
    assert (np.argmax(model(ids[:1, :-1]), axis=-1) == ids[:1, 1:]).mean() > 0.9


def test_logits_stay_float32_under_mixed_precision():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = language_model(units=4)
        step, start = one_step(model)
        logits, state = step(np.array([1]), start(1))
        assert (model.output.dtype, logits.dtype, state[0][0].dtype) == ("float32", "float32", "bfloat16")
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
