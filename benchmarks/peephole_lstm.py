"""The cost of PeepholeLSTM compared to torch.nn.LSTM, keras.layers.LSTM and the cell of TensorFlow Addons.

    python benchmarks/peephole_lstm.py            # about 5 minutes on 2 cores

Forward and backward pass over whole sequences with gradients of the inputs and all weights; peers are interleaved A B A
B in one process. Ratios are our time divided by the peer's (below 1, ours is faster), for the median round and for the
fastest round, which is least affected by other load. Keras and TensorFlow Addons are compared with ours in the same
mode, graph or XLA; torch with the faster of ours. Peak memory is that of a separate training process, above its memory
before the first step.
"""

import importlib
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Required to import TensorFlow Addons next to Keras 3, which is not affected.
os.environ.update(TF_USE_LEGACY_KERAS="1", TF_ADDONS_PY_OPS="1")

import keras
import numpy as np
import tensorflow as tf

from keras_dl.layers import PeepholeLSTM

SHAPES = [(32, 200, 64, 256), (8, 1000, 32, 128), (128, 100, 128, 512)]  # B, T, D, U
ROUNDS = 7


def ours(units):
    return PeepholeLSTM(units, return_sequences=True)


def keras_lstm(units):
    return keras.layers.LSTM(units, return_sequences=True, use_cudnn=False)


def addons(units):
    tf_keras = importlib.import_module("tf_keras")
    sys.modules["keras.src.engine"] = importlib.import_module("tf_keras.src.engine")
    importlib.import_module("tf_keras.src.engine.keras_tensor")
    cell = importlib.import_module("tensorflow_addons").rnn.PeepholeLSTMCell(units)
    return tf_keras.layers.RNN(cell, return_sequences=True)


def tensorflow_step(layer, inputs, jit):
    inputs = tf.constant(inputs)
    layer(inputs[:1, :2])
    weights = [weight.value for weight in layer.trainable_weights] if isinstance(layer, keras.Layer) else layer.weights

    @tf.function(jit_compile=jit)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(loss, [x, *weights])

    return lambda: step(inputs)[0].numpy()


def torch_step(inputs, units):
    torch = importlib.import_module("torch")
    torch.set_num_threads(os.cpu_count())
    layer = torch.nn.LSTM(inputs.shape[-1], units, batch_first=True)
    x = torch.tensor(inputs, requires_grad=True)

    def step():
        layer.zero_grad()
        x.grad = None
        layer(x)[0].square().sum().backward()
        return x.grad.numpy()

    return step


def steps(shape):
    """Returns the training steps to compare, by `(name, mode)`; missing peers are reported."""
    *_, units = shape
    inputs = np.random.default_rng(0).normal(size=shape[:3]).astype("float32")
    found = {}
    for make in (ours, keras_lstm, addons):
        try:
            for mode in ("graph", "xla"):
                found[make.__name__, mode] = tensorflow_step(make(units), inputs, jit=mode == "xla")
        except ImportError as error:
            print(f"missing: {make.__name__} ({error})")
    try:
        found["torch", "eager"] = torch_step(inputs, units)
    except ImportError as error:
        print(f"missing: torch ({error})")
    return found


def measured(functions):
    """Measures each function, interleaved: median and minimum seconds."""
    seconds = {name: [] for name in functions}
    for number in range(ROUNDS + 1):  # the first round traces and compiles
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: (statistics.median(values), min(values)) for name, values in seconds.items()}


def peak(name, shape):
    """Returns the peak memory of training in a separate process, in megabytes above the memory before."""
    code = f"import runpy; runpy.run_path({str(Path(__file__))!r})['train_for_memory']({name!r}, {shape})"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def train_for_memory(name, shape):
    inputs = np.random.default_rng(0).normal(size=shape[:3]).astype("float32")
    step = tensorflow_step(globals()[name](shape[-1]), inputs, jit=False)

    def status(key):
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

    before = status("VmRSS")
    for _ in range(4):
        step()
    print(status("VmHWM") - before)


def processor():
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main():
    print(f"{processor()}, {os.cpu_count()} cores; TensorFlow {tf.__version__}, Keras {keras.__version__}")
    ratios = {}
    for shape in SHAPES:
        print(f"\nB, T, D, U = {shape}")
        times = measured(steps(shape))
        best = min((times["ours", mode] for mode in ("graph", "xla")), key=lambda seconds: seconds[1])
        for (name, mode), (median, least) in times.items():
            mine = times.get(("ours", mode), best)
            ratio = mine[0] / median, mine[1] / least
            text = f"  {name:10} {mode:6} median {median * 1e3:8.1f} ms, fastest {least * 1e3:8.1f} ms"
            if name != "ours":
                ratios.setdefault((name, mode), []).append(ratio)
                text += f"   ours / peer {ratio[0]:.2f}, fastest round {ratio[1]:.2f}"
            print(text, flush=True)
    print("\ngeometric means, ours / peer")
    for (name, mode), values in ratios.items():
        median, least = (math.prod(kind) ** (1 / len(values)) for kind in zip(*values, strict=True))
        print(f"  {name:10} {mode:6} {median:.2f}, fastest round {least:.2f}")
    print("\npeak memory of training, graph mode")
    for shape in SHAPES:
        mine, theirs = peak("ours", shape), peak("keras_lstm", shape)
        print(f"  {shape!s:22} ours {mine:7.0f} MB, keras {theirs:7.0f} MB, ratio {mine / theirs:.2f}", flush=True)


if __name__ == "__main__":
    main()
