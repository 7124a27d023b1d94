"""The Mackey-Glass series: solved right, cut right, the same everywhere."""

import hashlib

import numpy as np
import pytest

from keras_dl.data import load
from keras_dl.data.builders import mackey_glass
from keras_dl.data.builders.mackey_glass import MackeyGlass, integrate
from keras_dl.errors import UserError


def series(tau):
    return [next(split.as_numpy_iterator())["series"] for split in load("mackey_glass", tau=tau)]


def test_the_first_delay_is_the_exact_solution():
    """Up to t = tau the delayed value is the history: a linear equation."""
    times, produced = np.arange(18), 0.2 * 1.2 / (1 + 1.2**10) / 0.1
    np.testing.assert_allclose(integrate(17, 18), produced + (1.2 - produced) * np.exp(-0.1 * times), rtol=1e-9)


@pytest.mark.parametrize("tau", [17, 30])
def test_half_the_step_makes_a_sixteenth_of_the_error(tau):
    best = integrate(tau, 200, substeps=80)
    errors = [np.abs(integrate(tau, 200, substeps=substeps) - best).max() for substeps in (5, 10, 20)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 16, rtol=0.15)
    assert errors[1] < 1e-7


def test_it_agrees_with_an_adaptive_solver():
    """The method of steps: one delay after the other, each an ordinary equation with what is known of the last one."""
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


def test_the_fixed_point_stays():
    np.testing.assert_allclose(integrate(17, 100, history=1.0), 1.0, rtol=1e-14)


@pytest.mark.parametrize("tau", [17, 30])
def test_the_splits_follow_one_another(tau):
    parts = series(tau)
    assert [part.shape for part in parts] == [(count, 1) for count in mackey_glass.STEPS.values()]
    assert {part.dtype.name for part in parts} == {"float64"}
    whole = np.concatenate(parts)[:, 0]
    history = np.random.default_rng(MackeyGlass.SEED).uniform(1.1, 1.3)
    again = np.tanh(integrate(tau, 1000 + len(whole), history)[1000:] - 1)
    np.testing.assert_array_equal(whole, again)


def test_the_two_delays_are_two_series_of_the_known_range():
    mild, wild = (np.concatenate(series(tau)) for tau in (17, 30))
    assert (-0.53 < mild.min() < -0.50) and (0.29 < mild.max() < 0.33)
    assert wild.min() < mild.min() and wild.std() > mild.std()
    assert load("mackey_glass", tau=17) is not load("mackey_glass", tau=30)


def test_the_values_are_the_same_everywhere():
    values = integrate(17, 2000)
    assert hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16] == "8400fc8c1bd70bc2"


def test_another_delay_is_refused():
    with pytest.raises(UserError, match="tau must be one of 17, 30. Received: 16"):
        load("mackey_glass", tau=16)
