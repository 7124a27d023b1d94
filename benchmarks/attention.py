"""What attention costs: ours against Keras, time and memory, forward and backward.

    python benchmarks/attention.py            # about 5 minutes on 2 cores, 7 GB
    python benchmarks/attention.py --eager    # with Keras' layer eagerly too: 11 GB

Time interleaved A B A B in one process: ratios are ours over the better of Keras in a graph and under XLA, of the
medians of the rounds and of the fastest round, which other work on the machine disturbs least. Memory is the peak of
the process above what it had with TensorFlow loaded and the inputs drawn, each in a process of its own; XLA's own
memory while it compiles is in it. Ours is one and the same function in a graph and under XLA.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_dl.ops.attention import additive_attention, dot_product_attention

ROUNDS = 5
ADDITIVE = {"batch": 8, "length": 512, "features": 256}
DOT_PRODUCT = {"batch": 1, "length": 4096, "heads": 8, "features": 64}
LENGTHS = [256, 512, 1024, 2048, 4096]  # of additive attention's memory
MODES = ["graph", "XLA"]


def ours_additive(query, key, value, scale):
    return additive_attention(query, key, value, scale)


def keras_additive(query, key, value, scale):
    layer = keras.layers.AdditiveAttention()
    layer.built, layer.scale = True, scale
    return layer([query, value, key])


def ours_dot_product(query, key, value):
    return dot_product_attention(query, key, value, query.shape[-1] ** -0.5)


def ours_causal(query, key, value):
    return dot_product_attention(query, key, value, query.shape[-1] ** -0.5, causal=True)


def keras_dot_product(query, key, value):
    return keras.ops.dot_product_attention(query, key, value)


def keras_causal(query, key, value):
    return keras.ops.dot_product_attention(query, key, value, is_causal=True)


def inputs(length, batch, features, heads=None):
    """Query, key, value, for additive attention the scale, and the slope of the result."""
    generator = np.random.default_rng(0)
    shape = (batch, length, features) if heads is None else (batch, length, heads, features)
    shapes = [shape] * 3 + ([(features,)] if heads is None else []) + [shape]
    return [tf.constant(generator.normal(size=shape).astype("float32")) for shape in shapes]


def step(function, mode):
    def slopes(*tensors):
        *tensors, upstream = tensors
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = function(*tensors)
        return result, *tape.gradient(result, tensors, upstream)

    return slopes if mode == "eager" else tf.function(slopes, jit_compile=mode == "XLA", autograph=False)


def run(function, tensors):
    return [result.numpy() for result in function(*tensors)]


def times(names, shape, modes=MODES):
    """Median and least milliseconds by name and mode, interleaved; the first round traces and compiles."""
    tensors = inputs(**shape)
    functions = {(name, mode): step(globals()[name], mode) for name in names for mode in modes}
    found = {key: [] for key in functions}
    for number in range(ROUNDS + 1):
        for key, function in functions.items():
            began = time.perf_counter()
            run(function, tensors)
            if number:
                found[key].append(1000 * (time.perf_counter() - began))
    return {key: np.array([statistics.median(values), min(values)]) for key, values in found.items()}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(name, mode, shape):
    """MiB that one step needs, in a process of its own."""
    arguments = [f"{key}={value}" for key, value in shape.items()]
    answer = subprocess.run(
        [sys.executable, __file__, "--memory", name, mode, *arguments], capture_output=True, text=True, check=True
    )
    return float(answer.stdout.split()[-1])


def memory_here(name, mode, *arguments):
    tensors = inputs(**{key: int(value) for key, value in (argument.split("=") for argument in arguments)})
    run(step(lambda x: tf.linalg.matmul(x, x), "graph"), [tf.ones((64, 64))] * 2)  # threads and kernels are there
    before = peak()
    run(step(globals()[name], mode), tensors)
    print(peak() - before)


def compare(title, ours, peer, shape, eager):
    print(title, ", ".join(f"{key} {value}" for key, value in shape.items()))
    found = times([ours, peer], shape)
    needed = {key: memory(*key, shape) for key in found}
    if eager:
        found |= times([peer], shape, ["eager"])
        needed[peer, "eager"] = memory(peer, "eager", shape)
    for key, (median, least) in found.items():
        print("  {:18} {:6}".format(*key), f"{median:8.0f} ms, least {least:8.0f}, {needed[key]:8.0f} MiB", flush=True)
    best = np.min([value for (name, _), value in found.items() if name == peer], axis=0)
    least = min(value for (name, _), value in needed.items() if name == peer)
    for mode in MODES:
        ratio = "{:.2f}, of the least {:.2f}".format(*found[ours, mode] / best)
        print(f"  ours, {mode}: time {ratio}; memory 1/{least / needed[ours, mode]:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--memory", nargs="+")
    arguments = parser.parse_args()
    if arguments.memory:
        memory_here(*arguments.memory)
        return
    compare("additive:", "ours_additive", "keras_additive", ADDITIVE, arguments.eager)
    compare("scaled dot products:", "ours_dot_product", "keras_dot_product", DOT_PRODUCT, False)
    compare("the same, causal:", "ours_causal", "keras_causal", DOT_PRODUCT, False)
    print("memory of additive attention, batch 8, features 256, MiB (of a query):")
    for length in LENGTHS:
        needed = memory("ours_additive", "graph", ADDITIVE | {"length": length})
        print(f"  length {length:5} {needed:8.0f} ({needed / length:.2f})", flush=True)


if __name__ == "__main__":
    main()
