"""The cost of forced alignment: a whole batch compared to single utterances.

    python benchmarks/ctc_alignment.py            # about 1 minute on 2 cores

Interleaved in one process: `align` of a batch, in eager mode and under XLA; a loop of `align` over its rows, in the
same two modes; and a loop of Viterbi in NumPy, vectorized over the states, as in a library without batches. Ratios
are the time of the loop divided by that of the batch (above 1, the batch is faster), for the median round and for
the fastest round, which is least affected by other load.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from keras_dl.ops.ctc import align

SHAPES = [(32, 200, 40, 64), (8, 800, 150, 64)]  # B, T, L, V
ROUNDS = 7


def viterbi(labels, logits):
    """Returns the states of the best path of one row in NumPy; the blank is class 0."""
    states = np.zeros(2 * len(labels) + 1, np.int64)
    states[1::2] = labels
    shifted = logits - logits.max(axis=1, keepdims=True)
    emission = (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))[:, states]
    skip = np.full(len(states), -np.inf, np.float32)
    skip[3::2] = np.where(states[3::2] != states[1:-2:2], 0, -np.inf)
    candidates = np.full((3, len(states)), -np.inf, np.float32)
    score = np.full(len(states), -np.inf, np.float32)
    score[0] = 0
    pointers = np.empty(emission.shape, np.int8)
    for frame, scores in enumerate(emission):
        candidates[0], candidates[1, 1:], candidates[2, 2:] = score, score[:-1], score[:-2]
        candidates[2] += skip
        pointers[frame] = candidates.argmax(axis=0)
        score = candidates.max(axis=0) + scores
    path = np.empty(len(emission), np.int64)
    state = len(states) - 1 - int(score[-2] > score[-1])
    for frame in range(len(emission) - 1, -1, -1):
        path[frame] = state
        state -= int(pointers[frame, state])
    return states[path]


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


def main():
    print(f"{os.cpu_count()} cores; TensorFlow {tf.__version__}, numpy {np.__version__}")
    jit = tf.function(lambda labels, logits: align(labels, logits), jit_compile=True)
    for shape in SHAPES:
        batch, frames, length, classes = shape
        generator = np.random.default_rng(0)
        labels = generator.integers(1, classes, (batch, length)).astype("int32")
        logits = generator.normal(size=(batch, frames, classes)).astype("float32")
        tensors = tf.constant(labels), tf.constant(logits)
        rows = [tuple(tensor[row : row + 1] for tensor in tensors) for row in range(batch)]
        np.testing.assert_array_equal(align(*tensors).path[0], viterbi(labels[0], logits[0]))
        times = measured(
            {
                "batch, eager": lambda: align(*tensors).path.numpy(),  # noqa: B023
                "batch, XLA": lambda: jit(*tensors).path.numpy(),  # noqa: B023
                "rows, eager": lambda: [align(*row).path.numpy() for row in rows],  # noqa: B023
                "rows, XLA": lambda: [jit(*row).path.numpy() for row in rows],  # noqa: B023
                "rows, numpy": lambda: [viterbi(*row) for row in zip(labels, logits, strict=True)],  # noqa: B023
            }
        )
        print(f"\nB, T, L, V = {shape}")
        for name, (median, least) in times.items():
            line = f"  {name:12} median {median * 1e3:7.1f} ms, fastest {least * 1e3:7.1f} ms"
            for batched in ("batch, eager", "batch, XLA"):
                ratios = median / times[batched][0], least / times[batched][1]
                line += f"   {ratios[0]:6.1f}x {batched} (fastest {ratios[1]:.1f}x)"
            print(line, flush=True)


if __name__ == "__main__":
    main()
