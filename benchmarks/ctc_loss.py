"""The cost of the CTC loss: keras_dl compared to torch, Keras and TensorFlow.

    python benchmarks/ctc_loss.py            # about 3 minutes on 2 cores

Forward and backward pass, interleaved A B A B in one process. Ratios are our time divided by the peer's (below 1, ours
is faster), for the median round and for the fastest round, which is least affected by other load. Ours runs in a graph
with static shapes (in which its loop is compiled), in one with unknown shapes, and under XLA; one ratio is for the
faster of the first and the last, the other for unknown shapes. Keras is the faster of graph and XLA. Finally, errors
relative to the textbook recursion in long double, for logits of standard deviation 1 and 30.
"""

import importlib
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_dl.ops.ctc import ctc_loss

SHAPES = [(32, 200, 40, 64), (8, 800, 150, 64)]  # B, T, L, V
ROUNDS = 7


def problem(shape, scale=1.0):
    batch, frames, longest, classes = shape
    generator = np.random.default_rng(0)
    logits = generator.normal(0, scale, (batch, frames, classes)).astype("float32")
    return generator.integers(1, classes, (batch, longest)).astype("int32"), logits


def in_tensorflow(loss, labels, logits, known=True, jit_compile=False):
    """Returns a step that computes losses and gradients; `loss` is a function of labels, logits and the two lengths."""
    lengths = [np.full(len(array), array.shape[1], np.int32) for array in (labels, logits)]
    free = tf.TensorSpec([None, None, logits.shape[2]]), tf.TensorSpec([None, None], tf.int32)
    signature = [tf.TensorSpec(logits.shape), tf.TensorSpec(labels.shape, tf.int32)] if known else free

    @tf.function(input_signature=signature, jit_compile=jit_compile, autograph=False)
    def step(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = loss(labels, logits, *lengths)
        return losses, tape.gradient(losses, logits)

    logits, labels = tf.constant(logits), tf.constant(labels)
    return lambda: [result.numpy() for result in step(logits, labels)]


def keras_loss(labels, logits, label_length, logit_length):
    return keras.ops.ctc_loss(labels, logits, label_length, logit_length, mask_index=0)


def tensorflow_kernel(labels, logits, label_length, logit_length):
    """Computes `tf.nn.ctc_loss` with sparse labels: the C++ kernel."""
    sparse = tf.RaggedTensor.from_tensor(labels, label_length).to_sparse()
    return tf.nn.ctc_loss(sparse, logits, label_length, logit_length, logits_time_major=False, blank_index=0)


def in_torch(labels, logits):
    torch = importlib.import_module("torch")
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(os.cpu_count())
    lengths = [torch.full([len(array)], array.shape[1]) for array in (logits, labels)]
    labels, logits = torch.tensor(labels), torch.tensor(logits, requires_grad=True)

    def step():
        logits.grad = None
        log_softmax = torch.log_softmax(logits, 2).transpose(0, 1)
        losses = torch.nn.functional.ctc_loss(log_softmax, labels, *lengths, reduction="none")
        losses.sum().backward()
        return losses.detach().numpy(), logits.grad.numpy()

    return step


def steps(labels, logits):
    found = {
        "ours, shapes known": in_tensorflow(ctc_loss, labels, logits),
        "ours, shapes unknown": in_tensorflow(ctc_loss, labels, logits, known=False),
        "ours, XLA": in_tensorflow(ctc_loss, labels, logits, jit_compile=True),
        "keras, graph": in_tensorflow(keras_loss, labels, logits),
        "keras, XLA": in_tensorflow(keras_loss, labels, logits, jit_compile=True),
        "tf.nn kernel": in_tensorflow(tensorflow_kernel, labels, logits),
    }
    try:
        found["torch"] = in_torch(labels, logits)
    except ImportError as error:
        print(f"missing: torch ({error})")
    return found


def measured(functions):
    """Measures each function, interleaved: median and minimum milliseconds."""
    times = {name: [] for name in functions}
    for number in range(ROUNDS + 1):  # the first round traces and compiles
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if number:
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: np.array([statistics.median(values), min(values)]) for name, values in times.items()}


def truth(labels, logits):
    """Computes losses and gradients with the textbook recursion of the tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ops" / "ctc"))
    textbook = importlib.import_module("textbook")
    rows = [textbook.loss_and_gradient(row, values, 0) for row, values in zip(labels, logits, strict=True)]
    return [np.array([row[part] for row in rows]).astype("float64") for part in (0, 1)]


def main():
    for shape in SHAPES:
        labels, logits = problem(shape)
        times = measured(steps(labels, logits))
        print("B={} T={} L={} V={}: milliseconds, median and fastest".format(*shape))
        for name, (median, least) in times.items():
            print(f"  {name:22} {median:8.1f} {least:8.1f}")
        ours = np.minimum(times["ours, shapes known"], times["ours, XLA"])
        peers = {"torch": times.get("torch"), "tf.nn kernel": times["tf.nn kernel"]}
        peers["keras"] = np.minimum(times["keras, graph"], times["keras, XLA"])
        for name, peer in peers.items():
            if peer is not None:
                for mode, mine in (("compiled", ours), ("shapes unknown", times["ours, shapes unknown"])):
                    ratio = "{:.2f}, fastest round {:.2f}".format(*mine / peer)
                    print(f"  ours, {mode}, over {name}: {ratio}", flush=True)
    print("errors: losses relative to max(1, loss), gradients absolute")
    for scale in (1.0, 30.0):
        labels, logits = problem((4, 200, 40, 64), scale)
        loss, slope = truth(labels, logits)
        for name, step in steps(labels, logits).items():
            losses, slopes = step()
            error = np.max(abs(losses - loss) / np.maximum(1, loss)), np.max(abs(slopes - slope))
            print("  deviation {:2.0f} {:22} {:.0e} {:.0e}".format(scale, name, *error), flush=True)


if __name__ == "__main__":
    main()
