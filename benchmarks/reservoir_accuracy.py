"""Accuracy of echo state networks on the standard tasks of the field, following the published protocols.

    python benchmarks/reservoir_accuracy.py                                 # about 4 minutes on 2 cores
    python benchmarks/reservoir_accuracy.py --minimal MackeyGlass_t17.txt   # also Lukosevicius' protocol, with his file

States are float32 in the minimal protocol, NARMA and the memory capacity, and float64 where rounding errors of 1e-7
matter: in Mackey-Glass (float32: 9.6e-5) and Lorenz (float32: 10.8 Lyapunov times). The targets of the project are
based on published or reproduced results.
"""

import argparse
import os
import platform
from datetime import date

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.integrate import solve_ivp

from keras_dl.data.builders.mackey_glass import integrate
from keras_dl.layers import ESN
from keras_dl.models import EchoStateNetwork

LYAPUNOV_EXPONENT = 0.9056  # of the Lorenz system


def nrmse(errors, truth):
    return float(np.sqrt(np.mean(np.square(errors))) / np.std(truth))


def minimal(path):
    """Lukosevicius' minimal example, with weights from NumPy's seed 42: mean squared error of 500 free steps."""
    series = np.loadtxt(path).reshape(1, -1, 1)
    np.random.seed(42)
    inputs, recurrent = np.random.rand(1000, 2) - 0.5, np.random.rand(1000, 1000) - 0.5
    recurrent *= 1.25 / np.abs(np.linalg.eigvals(recurrent)).max()
    reservoir = ESN.from_weights(recurrent.T, inputs[:, 1:].T, inputs[:, 0], leak_rate=0.3)
    model = EchoStateNetwork(reservoir, units=1, alpha=1e-8, washout=100)
    model.fit(series[:, :2001], verbose=0)
    return np.mean(np.square(model.forecast(series[:, :2001], 500) - series[:, 2001:2501]))


def mackey_glass(seed):
    """NRMSE 84 steps after a context of 1000, over 100 starts; Jaeger 2001, N = 1000."""
    series = np.tanh(integrate(17, 21_000)[1000:] - 1).reshape(1, -1, 1)
    reservoir = ESN(1000, fan_in=None, spectral_radius=0.9, leak_rate=0.7, bias_scaling=0.2, seed=seed, dtype="float64")
    model = EchoStateNetwork(reservoir, units=1, alpha=1e-10, washout=1000)
    model.fit(series[:, :4001], verbose=0)
    starts = np.linspace(4001, 18_000, 100).astype(int)
    contexts = np.concatenate([series[:, start : start + 1000] for start in starts])
    truth = series[0, starts + 1000 + 83, 0]
    errors = model.forecast(contexts, 84)[:, -1, 0] - truth
    return nrmse(errors, series)


def narma(seed):
    """NARMA-10 with 100 units and their squares: NRMSE over 2000 steps."""
    generator = np.random.default_rng(seed)
    u, y = generator.uniform(0, 0.5, 4210), np.zeros(4210)
    for t in range(9, 4209):
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
    inputs, targets = u[None, :-1, None], y[None, 1:, None]
    reservoir = ESN(100, spectral_radius=0.95, input_scaling=0.1, bias_scaling=0.2, seed=seed)
    model = EchoStateNetwork(reservoir, units=1, alpha=1e-9, washout=200, squared_states=True)
    model.fit(inputs[:, :2200], targets[:, :2200], verbose=0)
    return nrmse((model(inputs[:, :4200]) - targets[:, :4200])[:, 2200:], targets[:, 2200:4200])


def memory_capacity(seed):
    """Linear memory capacity of a linear cycle of 100 units: the bound is 100."""
    u = np.random.default_rng(seed).uniform(-0.8, 0.8, 6000)
    delays = range(1, 201)
    targets = np.stack([np.roll(u, delay) for delay in delays], -1)[None]
    reservoir = ESN(100, topology="cycle", spectral_radius=0.95, activation=None, seed=seed)
    model = EchoStateNetwork(reservoir, len(delays), alpha=1e-9, washout=1000, input_to_readout=False)
    model.fit(u[None, :5000, None], targets[:, :5000], verbose=0)
    outputs = np.asarray(model(u[None, :, None]))[0, 5000:]
    return sum(np.corrcoef(outputs[:, k], targets[0, 5000:, k])[0, 1] ** 2 for k in range(len(delays)))


def lorenz(seed, series):
    """Returns the median, over 40 starts, of the time until the error exceeds 0.4, in Lyapunov times."""
    reservoir = ESN(
        500, density=0.1, spectral_radius=0.6, input_scaling=0.15, bias_scaling=0.5, seed=seed, dtype="float64"
    )
    model = EchoStateNetwork(reservoir, units=3, alpha=1e-10, washout=200, squared_states=True)
    model.fit(series[:, :5201], verbose=0)
    starts = np.linspace(5201, series.shape[1] - 1400, 40).astype(int)
    contexts = np.concatenate([series[:, start : start + 200] for start in starts])
    truth = np.concatenate([series[:, start + 200 : start + 1200] for start in starts])
    errors = np.linalg.norm(model.forecast(contexts, 1000) - truth, axis=-1) / np.sqrt(3)
    valid = [np.argmax(row > 0.4) if (row > 0.4).any() else len(row) for row in errors]
    return np.median(valid) * 0.02 * LYAPUNOV_EXPONENT


def lorenz_series():
    def slope(_, p):
        return [10 * (p[1] - p[0]), p[0] * (28 - p[2]) - p[1], p[0] * p[1] - 8 / 3 * p[2]]

    times = np.arange(0, 400, 0.02)
    points = solve_ivp(slope, (0, 400), [1, 1, 1], "DOP853", times, rtol=1e-10, atol=1e-10).y.T[500:]
    return ((points - points.mean(0)) / points.std(0))[None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minimal", metavar="FILE", help="MackeyGlass_t17.txt of Lukosevicius' minimal example")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {date.today()}; medians of {arguments.seeds} seeds")
    series, seeds = lorenz_series(), range(arguments.seeds)
    tasks = [
        ("Mackey-Glass, N = 1000: NRMSE at 84 steps", "<= 1e-4", [mackey_glass(seed) for seed in seeds]),
        ("NARMA-10, N = 100 with squares: NRMSE", "<= 0.18", [narma(seed) for seed in seeds]),
        ("linear cycle, N = 100: memory capacity", ">= 99", [memory_capacity(seed) for seed in seeds]),
        ("Lorenz, N = 500: valid Lyapunov times", ">= 11", [lorenz(seed, series) for seed in seeds]),
    ]
    if arguments.minimal:
        tasks.append(("minimal ESN, N = 1000: MSE of 500 free steps", "<= 1.2e-6", [minimal(arguments.minimal)]))
    for name, target, values in tasks:
        print(f"{name:46} {np.median(values):10.4g}  ({min(values):.3g} to {max(values):.3g})  target {target}")


if __name__ == "__main__":
    main()
