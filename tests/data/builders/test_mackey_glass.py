"""Tests of the Mackey-Glass series: accuracy, splits and reproducibility."""

import hashlib

import numpy as np
import pytest

from keras_dl.data import load
from keras_dl.data.builders import mackey_glass
from keras_dl.data.builders.mackey_glass import MackeyGlass, integrate
from keras_dl.errors import UserError


def test_the_first_delay_equals_the_exact_solution():
    """Up to t = tau the delayed value is the constant history, so the equation is linear."""
    times, produced = np.arange(18), 0.2 * 1.2 / (1 + 1.2**10) / 0.1
    np.testing.assert_allclose(integrate(17, 18), produced + (1.2 - produced) * np.exp(-0.1 * times), rtol=1e-9)


@pytest.mark.parametrize("tau", [17, 30])
def test_the_method_is_of_fourth_order(tau):
    best = integrate(tau, 200, substeps=80)
    errors = [np.abs(integrate(tau, 200, substeps=substeps) - best).max() for substeps in (5, 10, 20)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 16, rtol=0.15)
    assert errors[1] < 1e-7


def test_agrees_with_an_adaptive_solver():
    """The method of steps: an ordinary differential equation per delay, given the solution of the previous one."""
    from scipy.integrate import solve_ivp

    past = lambda t: 1.2  # noqa: E731
    for part in range(5):
        start = 17 * part

        def slope(t, x, past=past):
            delayed = past(t - 17)
            return 0.2 * delayed / (1 + delayed**10) - 0.1 * x

        solution = solve_ivp(slope, (start, start + 17), [past(start)], rtol=1e-10, atol=1e-12, dense_output=True)
        past = lambda t, solution=solution: float(solution.sol(t)[0])  # noqa: E731
    np.testing.assert_allclose(integrate(17, 86)[68:], [past(t) for t in range(68, 86)], rtol=1e-7)


def test_the_fixed_point_is_constant():
    np.testing.assert_allclose(integrate(17, 100, history=1.0), 1.0, rtol=1e-14)


@pytest.mark.parametrize("tau", [17, 30])
def test_splits_are_consecutive_parts_of_the_series(tau, tmp_path, monkeypatch):
    assert mackey_glass.STEPS == {"train": 10_000, "validation": 5_000, "test": 5_000}
    monkeypatch.setattr(mackey_glass, "STEPS", {"train": 1_000, "validation": 500, "test": 600})
    builder = MackeyGlass(tau=tau, data_dir=tmp_path)
    builder.download_and_prepare()
    parts = [next(builder.as_dataset(split=split).as_numpy_iterator())["series"] for split in mackey_glass.STEPS]
    assert [part.shape for part in parts] == [(1_000, 1), (500, 1), (600, 1)]
    assert {part.dtype.name for part in parts} == {"float64"}
    series = np.concatenate(parts)[:, 0]
    history = np.random.default_rng(MackeyGlass.SEED).uniform(1.1, 1.3)
    np.testing.assert_array_equal(series, np.tanh(integrate(tau, 3_100, history)[1_000:] - 1))
    # The range known from the literature.
    assert (-0.53 < series.min() < -0.50) and (0.29 < series.max() < 0.33) if tau == 17 else series.min() < -0.53


def test_values_are_identical_on_all_machines():
    values = integrate(17, 2000)
    assert hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16] == "8400fc8c1bd70bc2"


def test_invalid_delay():
    with pytest.raises(UserError, match="tau must be one of 17, 30. Received: 16"):
        load("mackey_glass", tau=16)
