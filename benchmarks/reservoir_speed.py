"""The cost of echo state networks compared to reservoirpy and TensorFlow Addons: states, readout, memory.

    pip install -e ".[bench,addons]"
    python benchmarks/reservoir_speed.py            # about 3 minutes on 2 cores

All peers compute the same states from the same weights, interleaved A B A B in one process; a ratio is the peer's time
divided by ours, for the median of the rounds. TensorFlow Addons runs in a graph, its default, and compiled by XLA.
Peers that are not installed are skipped.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = os.environ["TF_ADDONS_PY_OPS"] = "1"  # for TensorFlow Addons; keras_dl uses Keras 3

import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from datetime import date

import keras
import numpy as np
import tensorflow as tf

from keras_dl.layers import ESN
from keras_dl.ops.reservoir_weights import draw_recurrent_kernel, spectral_radius
from keras_dl.ops.ridge import RidgeStatistics

ROUNDS = 5
LEAK = 0.3

HUGE = """
import os, re, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
from keras_dl.layers import ESN
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3
ESN(200)(np.ones((1, 2, 1), "float32"))
before, began = peak(), time.perf_counter()
units, steps = int(sys.argv[1]), int(sys.argv[2])
layer = ESN(units, fan_in=10, seed=1)
layer.build((None, None, 1))
built, grown = time.perf_counter() - began, peak() - before
if steps:
    layer(np.ones((1, steps, 1), "float32"))
print(built, time.perf_counter() - began - built, grown, peak())
"""


def peers(kernel, inputs, bias):
    """Returns `{name: function(series [B, T, D]) -> states}` of the installed peers."""
    found = {}
    try:
        from reservoirpy.nodes import Reservoir

        node = Reservoir(W=kernel.T.tocsr(), Win=inputs.T, bias=bias, lr=LEAK)
        found["reservoirpy"] = lambda series: node.run(series[0] if len(series) == 1 else series)
    except ImportError:
        pass
    try:
        addons = import_addons()
        import tf_keras

        layer = addons.layers.ESN(len(bias), leaky=LEAK, return_sequences=True)
        # Replaces its own weights, whose radius would require all eigenvalues of a dense matrix.
        layer.cell.recurrent_initializer = tf_keras.initializers.Zeros()
        layer.build((None, None, len(inputs)))
        layer.set_weights([kernel.toarray(), inputs, bias])
        for name, compiled in (("TFA graph", False), ("TFA XLA", True)):
            found[name] = tf.function(lambda series: layer(tf.cast(series, tf.float32)), jit_compile=compiled)
    except ImportError:
        pass
    return found


def import_addons():
    import tf_keras.src.engine.keras_tensor  # noqa: F401

    sys.modules["keras.src.engine"] = sys.modules["tf_keras.src.engine"]  # where TensorFlow Addons expects it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons
    del sys.modules["keras.src.engine"]
    return tensorflow_addons


def compare(ours, others, *data):
    """Prints the time of the peers divided by ours."""
    seconds = {name: [] for name in ["ours", *others]}
    for number in range(ROUNDS + 1):  # the first round compiles
        for name, function in {"ours": ours, **others}.items():
            began = time.perf_counter()
            result = np.asarray(function(*data))
            if number:
                seconds[name].append(time.perf_counter() - began)
            elif name == "ours":
                right = result
            elif result.shape == right.shape:
                np.testing.assert_allclose(result, right, atol=2e-5)
    mine = statistics.median(seconds["ours"])
    ratios = {n: statistics.median(a / b for a, b in zip(seconds[n], seconds["ours"], strict=True)) for n in others}
    print(f"  ours {mine * 1e3:8.1f} ms   " + "   ".join(f"{name} {ratio:.1f}x" for name, ratio in ratios.items()))


def states(batch, steps, units, fan_in):
    print(f"states: {batch} series x {steps} steps, N = {units}, {fan_in} links per unit")
    generator = np.random.default_rng(0)
    kernel = draw_recurrent_kernel(units, fan_in, 0.9, seed=1)
    inputs, bias = generator.uniform(-1, 1, (1, units)), generator.uniform(-0.2, 0.2, units)
    layer = ESN.from_weights(kernel, inputs, bias, leak_rate=LEAK, return_sequences=True)
    series = generator.normal(size=(batch, steps, 1)).astype("float32")
    compare(layer, peers(kernel, inputs, bias), series)


def ridge(rows, features):
    print(f"ridge: {rows} x {features} states, float64")
    generator = np.random.default_rng(0)
    z, y = generator.normal(size=(rows, features)), generator.normal(size=(rows, 1))

    def solve(z, y, alphas=(1e-6,)):
        seen = RidgeStatistics(features, 1)
        seen.add(z, y)
        return seen.solve(list(alphas))[0][0]

    others = {"ours, 20 alphas": lambda z, y: solve(z, y, np.logspace(-6, 2, 20))}
    try:
        from reservoirpy.nodes import Ridge

        others["reservoirpy"] = lambda z, y: Ridge(ridge=1e-6).fit(z, y).Wout
    except ImportError:
        pass
    compare(solve, others, z, y)


def huge(units, steps):
    command = [sys.executable, "-c", HUGE, str(units), str(steps)]
    built, ran, grown, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    print(f"N = {units}, 10 links per unit: drawn in {float(built):.1f} s with {float(grown):.0f} MB more", end="")
    print(f"; {steps} steps in {float(ran):.1f} s, peak of the process {float(peak):.0f} MB" if steps else "")


def main():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "")
    print(f"{cpu or platform.machine()}, {os.cpu_count()} cores, Keras {keras.__version__}, {date.today()}")
    states(1, 10_000, 1000, 10)
    states(64, 200, 500, 10)
    states(64, 200, 500, 50)
    ridge(10_000, 1000)
    huge(20_000, 0)
    huge(100_000, 1000)
    errors = []
    for seed in range(30):
        kernel = draw_recurrent_kernel(units := 50 + 15 * seed, [10, None][seed % 2], 0.9, seed=seed)
        dense = kernel if seed % 2 else kernel.toarray()
        errors.append(abs(np.abs(np.linalg.eigvals(dense)).max() - 0.9))
        errors.append(abs(spectral_radius(kernel) - 0.9))
    print(f"spectral radius, 30 seeds, N = 50 to {units}: largest error {max(errors):.1e}")
    print(f"this process: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
