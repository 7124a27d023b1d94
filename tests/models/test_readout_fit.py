"""Tests of the closed-form `fit`: all kinds of data give the same readout, and invalid data change nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import ESN, RidgeReadout
from keras_dl.models import EchoStateNetwork, readout_fit

generator = np.random.default_rng(0)
X = generator.normal(size=(5, 20, 2)).astype("float32")
Y = np.stack([np.roll(X[..., 0], 1, axis=1), X.sum(-1)], -1).astype("float32")


def network(units=2, reservoir=None, **options):
    return EchoStateNetwork(reservoir or ESN(12, 5, seed=1), units, **{"alpha": 1e-2, "washout": 3, **options})


def solved(model):
    """Solves the readout with RidgeReadout from all rows at once."""
    features, _ = model.features(tf.constant(X))
    readout = RidgeReadout(2, 1e-2)
    readout.partial_fit(features.numpy()[:, 3:].reshape(-1, features.shape[-1]), Y[:, 3:].reshape(-1, 2))
    readout.solve()
    return readout.get_weights()


def assert_weights(model, expected, tolerance=1e-4):
    for found, value in zip(model.readout.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=tolerance)


class AsPyDataset(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        return X[2 * number : 2 * number + 2], Y[2 * number : 2 * number + 2]


DATA = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2)


@pytest.mark.parametrize(
    "data",
    [
        lambda: (X, Y),
        lambda: (tf.constant(X), tf.constant(Y)),
        lambda: (DATA,),
        lambda: (DATA.filter(lambda *_: True),),  # of unknown length
        lambda: (((X[s : s + 2], Y[s : s + 2]) for s in (0, 2, 4)),),
        lambda: ([(X[:2], Y[:2]), (X[2:], Y[2:])],),
        lambda: (AsPyDataset(),),
    ],
    ids=["arrays", "tensors", "dataset", "unknown length", "generator", "list", "PyDataset"],
)
def test_every_data_type_gives_the_same_readout(data):
    model = network()
    history = model.fit(*data(), batch_size=2, verbose=0)
    assert_weights(model, solved(model))
    error = np.square(model(X)[:, 3:] - Y[:, 3:]).mean()
    assert history.history["loss"] == [pytest.approx(error, rel=1e-3)]
    assert history.history["alpha"] == [0.01]


def test_long_sequences_are_processed_in_chunks(monkeypatch):
    model, reservoir = network(), keras.layers.GRU(6)
    model.fit(X, Y, verbose=0)
    gru = network(reservoir=reservoir, mask_value=9.0)
    padded = np.where(np.arange(20)[None, :, None] < np.array([20, 9, 12, 20, 5])[:, None, None], X, 9)
    gru.fit(padded, Y, verbose=0)
    before = model.readout.get_weights(), gru.readout.get_weights()
    monkeypatch.setattr(readout_fit, "CHUNK_VALUES", 5 * 16 * 6)
    model.fit(X, Y, verbose=0)
    gru.fit(padded, Y, verbose=0)
    assert_weights(model, before[0])
    assert_weights(gru, before[1])
    assert reservoir.trainable_weights  # fit does not freeze them


def test_masked_steps_and_zero_weights_do_not_count():
    mask = np.array([[1] * 20, [1] * 9 + [0] * 11, [0] * 8 + [1] * 12, [1] * 20, [1, 0] * 10], bool)
    y = np.where(mask[..., None], Y, np.nan)
    counted = mask & (np.cumsum(mask, 1) > 3)
    weights = generator.integers(0, 3, (5, 20)).astype("float32")
    model = network(mask_value=9.0)
    padded = np.where(mask[..., None], X, 9)
    model.fit(padded, y, sample_weight=weights, verbose=0)
    features, _ = model.features(tf.constant(X), mask=tf.constant(mask))
    readout = RidgeReadout(2, 1e-2)
    readout.partial_fit(features.numpy()[counted], Y[counted], weights[counted])
    readout.solve()
    assert_weights(model, readout.get_weights())
    y[0, 7] = np.nan
    with pytest.raises(ValueError, match=r"finite targets in batch 0. Received: nan at \[0, 7, 0\]"):
        model.fit(padded, y, verbose=0)
    weights[0, 7] = 0
    model.fit(padded, y, sample_weight=weights, verbose=0)


@pytest.mark.usefixtures("graphs")
def test_evaluate_ignores_washout_and_padding_even_if_nan():
    model = network(mask_value=9.0)
    model.compile(loss="mse", metrics=["mae"])
    model.fit(X, Y, verbose=0)
    x, y = X.copy(), Y.copy()
    x[1, 10:], y[1, 10:], y[:, :3] = 9, np.nan, np.nan
    keep = np.isfinite(y).all(-1)
    wrong = (model.predict(x, verbose=0) - y)[keep]
    found = model.evaluate(x, y, batch_size=5, verbose=0)
    np.testing.assert_allclose(found, [np.square(wrong).mean(), np.abs(wrong).mean()], rtol=1e-5)


def test_alpha_is_chosen_on_validation_data():
    model = network(alpha=[1e-4, 1.0, 1e5])
    noisy = Y + generator.normal(size=Y.shape)
    history = model.fit(X[:3], noisy[:3], validation_data=(X[3:], Y[3:]), verbose=0).history
    errors = {}
    for alpha in (1e-4, 1.0, 1e5):
        single = network(alpha=alpha)
        single.fit(X[:3], noisy[:3], verbose=0)
        errors[alpha] = single.evaluate(X[3:], Y[3:], verbose=0)
    assert history["alpha"] == [min(errors, key=errors.get)]
    assert history["val_loss"][0] == pytest.approx(min(errors.values()), rel=1e-4)
    data = tf.data.Dataset.from_tensor_slices((X[3:], Y[3:])).batch(1)
    assert model.fit(X[:3], noisy[:3], validation_data=data, verbose=0).history["val_loss"] == pytest.approx(
        history["val_loss"], rel=1e-4
    )
    with pytest.raises(ValueError, match="Choosing among 3 values of alpha .* validation_data=None"):
        model.fit(X, Y, verbose=0)


def test_partial_fits_equal_one_fit_and_fit_restarts():
    whole, parts = network(), network()
    whole.fit(X, Y, verbose=0)
    parts.partial_fit(X[:2], Y[:2])
    parts.partial_fit(DATA.skip(1))
    assert_weights(parts, whole.readout.get_weights())
    parts.fit(X[:1], Y[:1], verbose=0)
    whole.fit(X[:1], Y[:1], verbose=0)
    assert_weights(parts, whole.readout.get_weights(), 0)


def test_partial_fit_of_a_loaded_model_requires_fit(tmp_path):
    model = network()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    for solver in ("ridge", "rls"):
        with pytest.raises(ValueError, match="requires the training state of an earlier `fit`"):
            loaded.partial_fit(X, Y, solver=solver)
    loaded.fit(X, Y, verbose=0)
    loaded.partial_fit(X, Y)
    model.partial_fit(X, Y)
    assert_weights(loaded, model.readout.get_weights(), 1e-6)


def test_the_washout_of_a_stream_counts_once():
    stream = network(reservoir=ESN(12, 5, seed=1, stateful=True), washout=6)
    whole = network(washout=6)
    whole.fit(X, Y, verbose=0)
    chunks = [(X[:, first : first + 4], Y[:, first : first + 4]) for first in range(0, 20, 4)]
    for _ in range(2):
        stream.fit(chunks, verbose=0)
        assert_weights(stream, whole.readout.get_weights())
    stream.fit(chunks[:3], verbose=0)
    with pytest.raises(ValueError, match="finite"):
        stream.partial_fit([chunks[3], (chunks[4][0] * np.nan, chunks[4][1])])
    stream.partial_fit(chunks[3:])
    assert_weights(stream, whole.readout.get_weights())
    with pytest.raises(ValueError, match="Expected 5 series in batch 0, as in earlier batches. Received: 2"):
        stream.partial_fit(X[:2], Y[:2])


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(batch)

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append((epoch, sorted(logs)))

    def on_train_end(self, logs=None):
        self.calls.append("end")


def test_callbacks_and_progress_bar(tmp_path, capsys):
    model, recorder = network(), Recorder()
    callbacks = [
        recorder,
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss", save_best_only=True),
        keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True),
    ]
    history = model.fit(DATA, validation_data=DATA, callbacks=callbacks, initial_epoch=4)
    assert recorder.calls == ["begin", 0, 1, 2, (4, ["alpha", "loss", "val_loss"]), "end"]
    assert history is model.history and history.epoch == [4]
    assert "3/3" in capsys.readouterr().out
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    model.fit(X, Y, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_keras_tuner_can_search(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")

    def build(choices):
        model = network(reservoir=ESN(12, 5, leak_rate=choices.Float("leak_rate", 0.2, 1.0), seed=1))
        model.compile(loss="mse", jit_compile=False)
        return model

    tuner = keras_tuner.RandomSearch(build, "val_loss", 2, seed=1, directory=tmp_path, project_name="search")
    tuner.search(X[:3], Y[:3], validation_data=(X[3:], Y[3:]), verbose=0)
    assert len(tuner.oracle.get_best_trials(2)) == 2
    assert tuner.get_best_models()[0](X).shape == Y.shape


def nan_at(array, *index):
    array = array.copy()
    array[index] = np.nan
    return array


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (nan_at(X, 3, 5, 1), Y, r"Expected finite inputs in batch 1. Received: nan at \[1, 5, 1\]"),
        (X, nan_at(Y, 4, 5, 1), r"Expected finite targets in batch 2. Received: nan at \[0, 5, 1\]"),
        (np.where(X > 2, np.inf, X), Y, "Expected finite inputs in batch 0. Received: inf"),
        (X[..., :1], Y, "Expected 2 features in batch 0. Received: shape"),
        (X[:, :3], Y[:, :3], "Expected more steps than the washout of 3 in batch 0. Received: 3"),
        (X, Y[..., :1], "Expected targets .* in batch 0. Received: shape"),
        (X, Y[:4], "Expected inputs, targets and weights of equal length"),
        (X[0], Y[0, :, None], "Expected series .* Received: shape"),
        (X, np.full((5, 20), 2), r"Expected classes from 0 to 1 in batch 0"),
        ([], None, "Expected at least one"),
        (DATA.repeat(), None, "repeats forever"),
    ],
)
def test_invalid_data_change_nothing(x, y, message, solver="ridge"):
    model = network()
    model.fit(X[:2], Y[:2], verbose=0, solver=solver)
    before = model.get_weights()
    for learn in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=message):
            learn(x, y, batch_size=2, solver=solver)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.partial_fit(X[2:4], Y[2:4], solver=solver)  # the shape of the first batch, which is compiled
    whole = network()
    whole.fit([(X[:2], Y[:2]), (X[2:4], Y[2:4])], verbose=0, solver=solver)
    assert_weights(model, whole.readout.get_weights())


def test_invalid_data_change_nothing_with_recursive_least_squares():
    test_invalid_data_change_nothing(nan_at(X, 3, 5, 1), Y, "Expected finite inputs in batch 1", solver="rls")


def test_invalid_arguments_of_fit():
    model = network()
    for options, message in (
        ({"solver": "svd"}, "`solver` must be 'ridge' or 'rls'. Received: 'svd'"),
        ({"forgetting": 0.0, "solver": "rls"}, "`forgetting` must be above 0 and at most 1"),
        ({"sample_weight": -np.ones(5)}, "Expected finite weights >= 0"),
        ({"sample_weight": np.ones((5, 7))}, "Expected finite weights >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, verbose=0, **options)
    assert not model.built
    with pytest.raises(ValueError, match="must be None if `x` is a data set"):
        model.fit(DATA, Y)
    with pytest.raises(ValueError, match="singular"):
        network(alpha=0.0).fit(X[:1, :8], Y[:1, :8], verbose=0)
    with pytest.raises(ValueError, match="learns at each step"):
        network(pooling="last").fit(X, Y[:, 0], solver="rls", verbose=0)


def test_states_that_overflow():
    unstable = ESN(30, seed=1, activation="relu", spectral_radius=3.0, bias_scaling=1.0)
    model = network(units=1, reservoir=unstable)
    with pytest.raises(ValueError, match="Expected finite states of the reservoir in batch 0.* Received: inf"):
        model.fit(np.ones((1, 400, 1)), verbose=0)
    assert not np.any(model.readout.kernel.numpy())


@pytest.mark.parametrize("solver", ["ridge", "rls"])
def test_invalid_validation_data_change_nothing(solver):
    series = np.random.default_rng(0).normal(size=(2, 60, 1))
    model = network(units=1, washout=20)
    model.fit(series, verbose=0)
    before = model.readout.kernel.numpy()
    for wrong, message in (
        (series[:, :15], "more steps than the washout"),
        (nan_at(series, 0, 5, 0), "finite inputs in batch 0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(series + 1, validation_data=(wrong,), solver=solver, verbose=0)
    np.testing.assert_array_equal(model.readout.kernel.numpy(), before)


def test_a_stream_requires_targets():
    model = network(units=1, reservoir=ESN(12, 5, seed=1, stateful=True))
    with pytest.raises(ValueError, match="A stateful reservoir requires targets: expected .x, y.. Received: no y"):
        model.fit(np.zeros((1, 30, 1)), verbose=0)
