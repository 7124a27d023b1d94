"""Tests of EchoStateNetwork: features, classification, feedback, recursive least squares, forecasts and export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import ESN, DeepESN, ESNCell
from keras_dl.models import EchoStateNetwork

generator = np.random.default_rng(0)
X = generator.normal(size=(6, 15, 2)).astype("float32")
WAVE = np.stack([np.sin(0.2 * np.arange(200) + phase) for phase in (0, 1)])[..., None].astype("float32")


def network(units=1, reservoir=None, **options):
    return EchoStateNetwork(reservoir or ESN(20, 5, seed=1), units, **{"alpha": 1e-4, "washout": 20, **options})


@pytest.fixture(scope="module")
def fitted():
    model = network()
    model.fit(WAVE, verbose=0)
    return model


def test_features_are_inputs_states_and_squared_states():
    reservoir = ESN(20, 5, seed=1)
    model = network(3, reservoir, squared_states=True)
    model.build((None, None, 2))
    assert model.readout.kernel.shape == (42, 3)
    states = reservoir(X)[0]
    features, (last,) = model.features(tf.constant(X))
    np.testing.assert_allclose(features, np.concatenate([X, states, np.square(states)], -1), atol=1e-6)
    np.testing.assert_allclose(last, states[:, -1], atol=1e-6)
    assert network(3, input_to_readout=False).features(tf.constant(X))[0].shape[-1] == 20


@pytest.mark.parametrize("pooling", ["last", "mean", "vote"])
def test_sequence_classification(pooling, request):
    if pooling == "vote":
        request.getfixturevalue("graphs")
    labels = np.array([0, 1, 2, 0, 1, 2])
    lengths = np.array([15, 9, 12, 15, 6, 8])
    x = np.where(np.arange(15)[None, :, None] < lengths[:, None, None], X + labels[:, None, None], 9.0)
    model = network(3, pooling=pooling, mask_value=9.0, washout=2, alpha=1e-2)
    history = model.fit(x, labels, validation_data=(x, labels), verbose=0).history
    weights = model.readout.get_weights()
    outputs = model.predict(x, verbose=0)
    assert outputs.shape == (6, 3)
    assert history["val_accuracy"] == [np.mean(outputs.argmax(-1) == labels)]
    for targets in (labels[:, None], np.eye(3)[labels], labels.astype("uint8")):
        model.fit(x, targets, verbose=0)
        for found, expected in zip(model.readout.get_weights(), weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
    states = model.features(tf.constant(x, "float32"), mask=model.padding_mask(x))[0].numpy()
    rows = [state[2:length] for state, length in zip(states, lengths, strict=True)]
    if pooling == "vote":
        votes = [np.eye(3)[(row @ weights[0] + weights[1]).argmax(-1)].mean(0) for row in rows]
    else:
        votes = [(row[-1] if pooling == "last" else row.mean(0)) @ weights[0] + weights[1] for row in rows]
    np.testing.assert_allclose(outputs, votes, atol=1e-4)


def test_step_classification():
    labels = (X[..., 0] > 0).astype(int)
    model = network(2, washout=2)
    history = model.fit(X, labels, validation_data=(X, labels), verbose=0).history
    assert np.mean(np.argmax(model(X), -1) == labels) > 0.9
    assert history["val_loss"] == [pytest.approx(history["loss"][0], rel=1e-3)]


@pytest.mark.parametrize(
    "reservoir",
    [
        lambda: keras.layers.Bidirectional(ESN(10, 5, seed=1, return_sequences=True)),
        lambda: keras.layers.Conv1D(5, 3, padding="causal"),
        lambda: keras.layers.LSTM(5),
        lambda: DeepESN([ESNCell(10, 5, seed=1), ESNCell(10, 5, seed=2)]),
        lambda: ESN(1, 1, seed=1),
        lambda: ESN(10, 5, seed=1, dtype="mixed_bfloat16"),
        lambda: ESN(10, 5, seed=1, dtype="float64"),
    ],
)
def test_models_with_any_reservoir_are_saved_and_loaded(reservoir, tmp_path):
    model, wave = network(reservoir=reservoir(), mask_value=9.0), WAVE[:, :40]
    model.fit(wave, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(wave), model(wave))
    if model.recurrent:
        np.testing.assert_array_equal(loaded.forecast(wave, 7), model.forecast(wave, 7))


def test_summary_clone_and_gradients(fitted, capsys):
    fitted.summary()
    assert "reservoir" in capsys.readouterr().out or fitted.count_params() > 0
    twin = keras.models.clone_model(fitted)
    twin.build((None, None, 1))
    twin.set_weights(fitted.get_weights())
    np.testing.assert_array_equal(twin(WAVE), fitted(WAVE))
    with tf.GradientTape() as tape:
        x = tf.constant(WAVE)
        tape.watch(x)
        value = tf.reduce_sum(fitted(x))
    assert np.abs(tape.gradient(value, x)).max() > 0


def test_forecasts_begin_after_the_context(fitted):
    forecast = fitted.forecast(WAVE[:, :150], 50)
    assert np.abs(forecast - WAVE[:, 150:])[:, :15].max() < 0.02
    np.testing.assert_allclose(forecast[:, 0], fitted(WAVE[:, :150])[:, -1], atol=1e-5)
    second = fitted(np.concatenate([WAVE[:, :150], forecast[:, :1]], 1))[:, -1]
    np.testing.assert_allclose(forecast[:, 1], second, atol=1e-4)


def test_a_forecast_continues_from_its_states(fitted):
    whole = fitted.forecast(WAVE, 12)
    first, states = fitted.forecast(WAVE, 5, return_state=True)
    np.testing.assert_allclose(first, whole[:, :5], atol=1e-5)
    more = fitted.forecast(first[:, -1:], 7, initial_state=states)
    np.testing.assert_allclose(more, whole[:, 5:], atol=1e-4)
    assert fitted.forecast(WAVE[:1, :1], 1).shape == (1, 1, 1)


def test_padding_of_the_context_does_not_change_the_forecast():
    model = network(mask_value=9.0)
    model.fit(WAVE, verbose=0)
    padding = np.full((2, 4, 1), 9.0, "float32")
    expected = model.forecast(WAVE, 5)
    for padded in (np.concatenate([WAVE, padding], 1), np.concatenate([padding, WAVE], 1)):
        np.testing.assert_allclose(model.forecast(padded, 5), expected, atol=1e-4)


def test_a_forecast_does_not_change_the_stream():
    model = network(reservoir=ESN(20, 5, seed=1, stateful=True))
    model.fit(WAVE[:, :-1], WAVE[:, 1:], verbose=0)
    before = model.stream()[0].numpy()
    again = [model.forecast(WAVE[:1], 5) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    np.testing.assert_array_equal(model.stream()[0].numpy(), before)


def test_the_exported_forecast_is_the_same(fitted, tmp_path):
    archive = keras.export.ExportArchive()
    archive.track(fitted)
    signature = [tf.TensorSpec([None, None, 1], name="context"), tf.TensorSpec([], tf.int32, name="steps")]
    archive.add_endpoint("forecast", lambda context, steps: fitted.forecast(context, steps), signature)
    archive.write_out(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    for steps, context in ((1, WAVE), (9, WAVE[:1, :50])):
        found = served.forecast(tf.constant(context), tf.constant(steps))
        np.testing.assert_allclose(found, fitted.forecast(context, steps), atol=1e-4)


def test_invalid_forecasts(fitted):
    with pytest.raises(ValueError, match="call `fit` first. Received: a model that is not built"):
        network().forecast(WAVE, 3)
    unfitted = network()
    unfitted.build((None, None, 1))
    with pytest.raises(ValueError, match="call `fit` first. Received: a readout of zeros"):
        unfitted.forecast(WAVE, 3)
    for context, steps, message in (
        (WAVE, 0, "`steps` must be an integer of at least 1. Received: 0"),
        (WAVE[..., [0, 0]], 3, "Expected a context .* Received: shape"),
        (WAVE[:, :0], 3, "Expected a context"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.forecast(context, steps)
    two = network(2)
    two.fit(WAVE, np.repeat(WAVE, 2, -1), verbose=0)
    with pytest.raises(ValueError, match="as many units as features"):
        two.forecast(WAVE, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"washout": -1}, "`washout` must be an integer of at least 0. Received: -1"),
        ({"pooling": "first"}, "`pooling` must be None, 'last', 'mean' or 'vote'. Received: 'first'"),
        ({"units": 0}, "`units` must be an integer of at least 1"),
        ({"alpha": -1.0}, "`alpha` must be"),
        ({"reservoir": 3}, "`reservoir` must be a layer"),
        ({"reservoir": ESN(20, go_backwards=True)}, "must run forward"),
        ({"reservoir": ESN(20, feedback=2)}, "must have feedback=units.* Received: feedback=2, units=1"),
        ({"reservoir": ESN(20, feedback=1, stateful=True)}, "must have .*stateful=False.* Received: .*stateful=True"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


@pytest.mark.parametrize("mask_value", [None, 9.0])
def test_feedback_is_teacher_forced_in_fit_and_free_running_in_call(mask_value):
    inputs = np.zeros_like(WAVE)
    reservoir = ESN(40, 5, seed=1, feedback=1, bias_scaling=0.2)
    model = network(reservoir=reservoir, mask_value=mask_value, washout=0, input_to_readout=False)
    x, y = inputs.copy(), WAVE.copy()
    if mask_value:
        x[0, :30], y[0, :30] = 9, np.nan
    model.fit(x, y, verbose=0)
    assert model.history.history["loss"][0] < 0.01
    outputs = model(x[:, :60])
    kernel, bias = model.readout.get_weights()
    state, output = np.zeros((2, 40), "float32"), np.zeros((2, 1), "float32")
    for t in range(60):
        cell_input = np.concatenate([inputs[:, t], output], -1)
        new = reservoir.cell(tf.constant(cell_input), [tf.constant(state)])[0].numpy()
        valid = (x[:, t] != 9.0).all(-1, keepdims=True)
        state, output = np.where(valid, new, state), np.where(valid, new @ kernel + bias, output)
        if t < 35:  # rounding differences grow later
            np.testing.assert_allclose(outputs[:, t], output, atol=1e-2)


@pytest.mark.parametrize("mask_value", [None, 9.0])
def test_recursive_least_squares_equals_ridge_with_a_penalized_bias(mask_value, request):
    if mask_value is None:
        request.getfixturevalue("graphs")
    x, y = X.copy(), np.roll(X[..., :1], 2, 1)
    mask = np.ones((6, 15), bool)
    if mask_value:
        mask[0, 8:] = mask[1, :5] = False
        x[~mask], y[~mask] = 9.0, np.nan
    weights = generator.integers(0, 3, (6, 15)).astype("float32")
    model = network(washout=3, alpha=0.1, mask_value=mask_value)
    for data in ((x, y, weights), None):
        if data:
            model.fit(x, y, sample_weight=weights, solver="rls", batch_size=3, verbose=0)
        else:
            model.fit(x[:3], y[:3], sample_weight=weights[:3], solver="rls", verbose=0)
            model.partial_fit(x[3:], y[3:], sample_weight=weights[3:], solver="rls")
        counted = mask & (np.cumsum(mask, 1) > 3)
        features = model.features(tf.constant(x), mask=tf.constant(mask))[0].numpy()[counted].astype("float64")
        features = np.column_stack([features, np.ones(len(features))])
        weighted = features.T * weights[counted]
        expected = np.linalg.solve(weighted @ features + 0.1 * np.eye(23), weighted @ y[counted])
        np.testing.assert_allclose(
            np.vstack([model.readout.get_weights()[0], [model.readout.bias]]), expected, atol=1e-4
        )


@pytest.mark.usefixtures("graphs")
def test_force_learns_a_sine():
    model = network(reservoir=ESN(60, 10, 1.2, seed=1, feedback=1, leak_rate=0.5), alpha=1.0, input_to_readout=False)
    long = np.sin(0.2 * np.arange(1500)).reshape(1, -1, 1)
    history = model.fit(np.zeros_like(long), long, solver="rls", verbose=0)
    assert history.history["loss"][0] < 0.05
    assert np.abs(model.predict(np.zeros_like(long[:, :300]), verbose=0)).max() < 3


def test_a_fitted_model_can_be_exported(tmp_path):
    model = network()
    model.fit(WAVE, verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    series = tf.constant(WAVE, tf.float32)
    np.testing.assert_allclose(loaded.serve(series), model(series), atol=1e-5)


def test_one_series_is_accepted_as_a_row():
    wave = np.sin(0.2 * np.arange(300))
    expected = EchoStateNetwork(ESN(30, seed=1), 1, washout=20)
    expected.fit(wave.reshape(1, -1, 1), verbose=0)
    for arguments in ((wave,), (wave[:-1], wave[1:]), (wave[:-1], wave[1:, None])):
        model = EchoStateNetwork(ESN(30, seed=1), 1, washout=20)
        model.fit(*arguments, verbose=0)
        np.testing.assert_array_equal(model.readout.kernel, expected.readout.kernel)
    forecast = expected.forecast(wave.reshape(1, -1, 1), 5)
    np.testing.assert_array_equal(expected.forecast(wave, 5), forecast)


def test_integers_are_a_series():
    steps = np.random.default_rng(0).integers(0, 9, (2, 60, 1))
    whole, real = (EchoStateNetwork(ESN(20, seed=1), 1, washout=5) for _ in range(2))
    whole.fit(steps, verbose=0)
    real.fit(steps.astype("float32"), verbose=0)
    np.testing.assert_array_equal(whole.readout.kernel, real.readout.kernel)
    np.testing.assert_array_equal(whole.predict(steps, verbose=0), real.predict(steps.astype("float32"), verbose=0))
    np.testing.assert_array_equal(whole.forecast(steps, 3), real.forecast(steps.astype("float32"), 3))


@pytest.mark.parametrize("ragged", [False, True])
def test_series_of_unequal_length_are_refused_with_advice(ragged):
    series = [np.zeros((30, 1)), np.zeros((40, 1))]
    series = tf.ragged.constant(series, ragged_rank=1) if ragged else series
    model = EchoStateNetwork(ESN(20, seed=1), 1)
    model.fit(WAVE, verbose=0)
    for use in (model.fit, model.predict, model.evaluate, lambda x: model.forecast(x, 2)):
        with pytest.raises(ValueError, match="series of unequal length; pad them .* and set `mask_value`"):
            use(series)


@pytest.mark.parametrize("form", ["array", "list", "tensor", "list of series", "list of columns"])
def test_series_in_other_forms(form):
    wave = WAVE[0, :60, 0]
    other = {
        "array": wave,
        "list": wave.tolist(),
        "tensor": tf.constant(wave),
        "list of series": [wave],
        "list of columns": [wave[:, None]],
    }[form]
    model, expected = (EchoStateNetwork(ESN(20, seed=1), 1, washout=5) for _ in range(2))
    series = wave[None, :, None]
    for each, x in ((model, other), (expected, series)):
        each.compile(loss="mse")
        each.fit(x, verbose=0)
    np.testing.assert_array_equal(model.readout.kernel, expected.readout.kernel)
    np.testing.assert_array_equal(model.predict(other, verbose=0), expected.predict(series, verbose=0))
    assert model.evaluate(other, other, verbose=0) == pytest.approx(expected.evaluate(series, series, verbose=0))
    np.testing.assert_array_equal(model.forecast(other, 3), expected.forecast(series, 3))


def test_other_ranks_and_dtypes_of_series_are_refused():
    model = EchoStateNetwork(ESN(20, seed=1), 1)
    model.fit(WAVE, verbose=0)
    for series, message in (
        (WAVE[0], r"Expected series \[n, T, D\].*Received: shape \(\d+, 1\)"),
        (WAVE[None], r"Expected series \[n, T, D\].*Received: shape \(1, 2, \d+, 1\)"),
        (np.array(["a", "b"]), "Expected numbers. Received: an array of dtype <U1"),
        (np.array([[1.0], [2.0, 3.0]], dtype=object), "Expected numbers. Received: an array of dtype object"),
    ):
        for use in (model.fit, model.predict, model.evaluate, lambda x: model.forecast(x, 2)):
            with pytest.raises(ValueError, match=message):
                use(series)
    for steps in (2.5, "3", None, True):
        with pytest.raises(ValueError, match="`steps` must be an integer of at least 1. Received: "):
            model.forecast(WAVE, steps)
