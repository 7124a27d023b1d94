"""The cost of attention compared to Keras: time and memory, forward and backward pass.

    python benchmarks/attention.py            # about 4 minutes on 2 cores, 8 GB
    python benchmarks/attention.py --eager    # also Keras' layer in eager mode: 12 GB

Times are interleaved A B A B, with graphs in one process and XLA in another, because of the memory. Ratios are our time
divided by the better of the two Keras modes, for the median round and for the fastest round, which is least affected by
other load. Memory is the peak of a separate process above its memory with TensorFlow loaded and the inputs drawn; it
includes the compilation by XLA.
"""

import argparse
import json
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

ROUNDS = 3
ADDITIVE = {"batch": 8, "length": 512, "features": 256}
DOT_PRODUCT = {"batch": 1, "length": 4096, "heads": 8, "features": 64}
LENGTHS = [256, 512, 1024, 2048, 4096]  # for the memory of additive attention
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
    """Draws query, key, value, the scale for additive attention, and the gradient of the result."""
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


def times_here(ours, peer, mode, *arguments):
    """Prints median and minimum milliseconds of ours in each mode and of the peer in one, interleaved."""
    tensors = inputs(**shape_of(arguments))
    functions = [step(globals()[ours], mode) for mode in MODES] + [step(globals()[peer], mode)]
    found = [[] for _ in functions]
    for number in range(ROUNDS + 1):  # the first round traces and compiles
        for values, function in zip(found, functions, strict=True):
            began = time.perf_counter()
            run(function, tensors)
            if number:
                values.append(1000 * (time.perf_counter() - began))
    print(json.dumps([(statistics.median(values), min(values)) for values in found]))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_here(name, mode, *arguments):
    """Prints the MiB required by one step."""
    tensors = inputs(**shape_of(arguments))
    run(step(lambda x: tf.linalg.matmul(x, x), "graph"), [tf.ones((64, 64))] * 2)  # starts threads and loads kernels
    before = peak()
    run(step(globals()[name], mode), tensors)
    print(json.dumps(peak() - before))


def shape_of(arguments):
    return {key: int(value) for key, value in (argument.split("=") for argument in arguments)}


def elsewhere(function, *arguments, shape):
    """Returns the output of a function of this file, run in a separate process."""
    command = [sys.executable, __file__, "--only", function, *arguments, *(f"{k}={v}" for k, v in shape.items())]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def compare(title, ours, peer, shape, modes=MODES):
    print(title, ", ".join(f"{key} {value}" for key, value in shape.items()))
    time, needed = {}, {}
    for mode in modes:
        *mine, theirs = np.array(elsewhere("times_here", ours, peer, mode, shape=shape))
        needed[mode] = elsewhere("memory_here", peer, mode, shape=shape)
        time[mode] = [*mine, theirs]
        print(f"  Keras, {mode:6} {theirs[0]:8.0f} ms, fastest {theirs[1]:8.0f}, {needed[mode]:8.0f} MiB", flush=True)
    for place, mode in enumerate(MODES):
        mine = elsewhere("memory_here", ours, mode, shape=shape)
        median, least = np.max([values[place] / values[-1] for values in time.values()], axis=0)
        own = np.median([values[place] for values in time.values()], axis=0)
        ratios = f"time {median:.2f}, fastest round {least:.2f}; memory 1/{min(needed.values()) / mine:.1f}"
        print(f"  ours,  {mode:6} {own[0]:8.0f} ms, fastest {own[1]:8.0f}, {mine:8.0f} MiB: {ratios}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--only", nargs="+", help="a function of this file and its arguments")
    arguments = parser.parse_args()
    if arguments.only:
        globals()[arguments.only[0]](*arguments.only[1:])
        return
    compare("additive:", "ours_additive", "keras_additive", ADDITIVE, [*MODES, "eager"][: 2 + arguments.eager])
    compare("scaled dot products:", "ours_dot_product", "keras_dot_product", DOT_PRODUCT)
    compare("the same, causal:", "ours_causal", "keras_causal", DOT_PRODUCT)
    print("memory of additive attention in a graph, batch 1, features 256:")
    for length in LENGTHS:
        needed = elsewhere("memory_here", "ours_additive", "graph", shape=ADDITIVE | {"batch": 1, "length": length})
        print(f"  length {length:5} {needed:8.0f} MiB, {1024 * needed / length:.0f} KiB per query", flush=True)


if __name__ == "__main__":
    main()
