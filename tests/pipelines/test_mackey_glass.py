"""The forecasting pipeline on short series: data, signatures, baselines and pictures."""

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.serving.export.export import export
from keras_dl.space import space

FILE = Path(__file__).parents[2] / "pipelines" / "mackey_glass.py"
SMALL = {"units": 300, "fan_in": 5}


def waves(steps, variables):
    times = np.arange(steps)[:, None] / np.array([7.0, 11.0, 5.0])[:variables]
    noise = np.random.default_rng(0).normal(0, 0.01, times.shape)
    return 50 + [10, 0.3, 2000][:variables] * (np.sin(times) + noise)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    np.save(folder / "three.npy", waves(1200, 3))
    np.savetxt(folder / "one.csv", waves(150, 1), header="value", comments="")
    return folder


def pipeline_of(source):
    pipeline = load_pipeline(FILE)
    pipeline.source = source
    return pipeline


def trained(pipeline):
    hp = space(pipeline, SMALL)
    keras.utils.set_random_seed(0)
    splits, model = pipeline.data(hp), pipeline.build(hp)
    model.fit(splits.train, validation_data=splits.validation, epochs=1, verbose=0)
    return pipeline, model, splits


@pytest.fixture(scope="module")
def three(files):
    """A network trained on three variables with very different units."""
    return trained(pipeline_of(str(files / "three.npy")))


def test_the_space_and_the_objective():
    pipeline = pipeline_of(None)
    hp = space(pipeline)
    assert pipeline.goal.test_metric == ("closed_loop_nrmse", "min")
    assert {"units", "spectral_radius", "leak_rate", "input_scaling", "fan_in"} <= set(hp.values)


def test_the_data_are_windows_of_the_standardised_series():
    splits = pipeline_of(None).data(None)
    for split, count in zip(splits, (10, 5, 5), strict=True):
        ((inputs, targets),) = list(split)
        assert inputs.shape == targets.shape == (count, inputs.shape[1], 1)
        assert inputs.dtype == tf.float32
        assert 900 < inputs.shape[1] - 100 <= 1000
    inputs = np.concatenate([inputs[:, 100:] for inputs, _ in splits.train]).ravel()
    assert abs(inputs.mean()) < 0.02 and abs(inputs.std() - 1) < 0.02
    following = next(iter(splits.test))
    np.testing.assert_array_equal(following[0][0, 1:], following[1][0, :-1])


def test_the_two_delays_give_different_series():
    tau_17, tau_30 = (next(iter(pipeline_of(source).data(None).test))[0] for source in ("tau_17", "tau_30"))
    default = next(iter(pipeline_of(None).data(None).test))[0]
    np.testing.assert_array_equal(default, tau_17)
    assert np.abs(tau_17 - tau_30).max() > 1


def test_a_missing_file_is_an_error():
    with pytest.raises(UserError, match="cannot read the series .*absent.csv: No such file"):
        space(pipeline_of("absent.csv"))


def test_several_variables_are_forecast_in_their_own_units(three):
    pipeline, model, splits = three
    series = waves(1200, 3)
    function, inputs = pipeline.signatures(model)["forecast"]
    assert [(spec.name, spec.shape.rank, spec.dtype) for spec in inputs] == [
        ("context", 3, tf.float32),
        ("steps", 0, tf.int32),
    ]
    function, outputs = tf.function(function, input_signature=inputs), {}
    for steps in (1, 2, 20):
        outputs[steps] = function(tf.constant(series[None, :1000], tf.float32), steps)["forecast"].numpy()
        assert outputs[steps].shape == (1, steps, 3)
    np.testing.assert_allclose(outputs[20][:, :2], outputs[2], rtol=1e-4)
    assert (np.abs(outputs[20][0] - series[1000:1020]) < 0.5 * series.std(axis=0)).all()


def test_the_default_signature_returns_the_next_steps(three):
    pipeline, model, splits = three
    function, inputs = pipeline.signatures(model)["serving_default"]
    series = tf.constant(waves(1200, 3)[None, 900:1000], tf.float32)
    results = tf.function(function, input_signature=inputs)(series)["next"].numpy()
    assert results.shape == (1, 100, 3)
    forecast = pipeline.signatures(model)["forecast"][0](series, tf.constant(1))["forecast"].numpy()
    np.testing.assert_allclose(results[:, -1:], forecast, rtol=1e-4)


def test_the_exported_model_gives_the_same_forecast(three, tmp_path):
    pipeline, model, splits = three
    request = pipeline.request(next(splits.test.unbatch().as_numpy_iterator()))
    folder = export(pipeline, model, tmp_path, 1, request)
    served = tf.saved_model.load(str(folder)).signatures["forecast"]
    series = tf.constant(waves(1200, 3)[None, 900:1000], tf.float32)
    for steps in (1, 5):
        results = served(context=series, steps=tf.constant(steps))["forecast"].numpy()
        expected = pipeline.signatures(model)["forecast"][0](series, tf.constant(steps))["forecast"].numpy()
        assert results.shape == (1, steps, 3)
        np.testing.assert_allclose(results, expected, rtol=1e-3)
    for steps, message in ((0, "from 1 to 100000"), (2_000_000_000, "from 1 to 100000")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):  # before the memory is allocated
            served(context=series, steps=tf.constant(steps))
    with pytest.raises(tf.errors.InvalidArgumentError, match="times the number of rows must be at most 1000000"):
        served(context=tf.repeat(series, 11, axis=0), steps=tf.constant(100_000))


def test_too_many_steps_are_an_error(three):
    pipeline, model, _ = three
    with pytest.raises(tf.errors.InvalidArgumentError, match="steps must be from 1 to 100000"):
        pipeline.signatures(model)["forecast"][0](tf.zeros((1, 5, 3)), tf.constant(100_001))


def test_request_and_answer_are_in_the_units_of_the_series(three):
    pipeline, model, splits = three
    example = next(splits.test.unbatch().as_numpy_iterator())
    series = waves(1200, 3)[1020:]
    request = pipeline.request(example)["series"]
    np.testing.assert_allclose(request[0], series[: request.shape[1]], rtol=1e-4)
    answer = next(splits.test.unbatch().as_numpy_iterator())[1]
    assert float(pipeline.answer(example).strip("[ ").split()[0]) == pytest.approx(series[1, 0], rel=1e-3)
    assert answer.shape == request[0].shape


def test_report_and_pictures(three):
    pipeline, model, splits = three
    results = pipeline.report(model, splits)
    baselines = ("LSTM", "linear", "persistence")
    assert set(results) == {"nrmse_84", "horizon"} | {
        f"{name}_{what}" for name in baselines for what in ("nrmse", "nrmse_84", "horizon")
    }
    assert all(np.isfinite(value) for name, value in results.items() if "LSTM" not in name)
    assert results["nrmse_84"] < results["persistence_nrmse_84"]
    # Errors are relative to the deviations of the test part, as in the metric.
    test = waves(1200, 3)[1020:]
    steps = np.sqrt(np.mean(np.mean(np.diff(test, axis=0) ** 2, axis=0) / test[1:].var(axis=0)))
    assert results["persistence_nrmse"] == pytest.approx(steps, rel=1e-6)
    pictures = pipeline.pictures(model, splits)
    assert set(pictures) == {"forecast", "error_growth", "spectrum"}
    assert len(pictures["forecast"].axes) == 4 * 3
    assert pictures["spectrum"].axes[0].get_title() == "300 eigenvalues, spectral radius 1"
    for figure in pictures.values():
        figure.canvas.draw()
        plt.close(figure)


@pytest.mark.slow
def test_report_and_pictures_of_a_short_series(files):
    pipeline, model, splits = trained(pipeline_of(str(files / "one.csv")))
    results = pipeline.report(model, splits)
    assert {"nrmse_11", "horizon"} < set(results)
    for figure in pipeline.pictures(model, splits).values():
        plt.close(figure)


def test_end_to_end(run_end_to_end, files):
    artifacts, _ = run_end_to_end(FILE, "--data", str(files / "one.csv"), units=300, fan_in=5)
    assert {"forecast.png", "error_growth.png", "spectrum.png"} < artifacts


@pytest.mark.slow
def test_the_default_network_is_far_better_than_the_baselines():
    pipeline = pipeline_of(None)
    hp = space(pipeline)
    splits, model = pipeline.data(hp), pipeline.build(hp)
    history = model.fit(splits.train, validation_data=splits.validation, verbose=0).history
    results = pipeline.report(model, splits)
    assert history["val_nrmse"][0] < 1e-4
    assert results["nrmse_84"] < 1e-3 < 10 * results["nrmse_84"] < results["LSTM_nrmse_84"]
    assert (
        results["horizon"] > 1000 > results["LSTM_horizon"] > results["linear_horizon"] > results["persistence_horizon"]
    )
