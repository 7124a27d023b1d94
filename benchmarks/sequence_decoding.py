"""The cost of beam search in one graph compared to a loop over its steps in Python.

    python benchmarks/sequence_decoding.py        # about 1 minute on 2 cores

A decoder of one LSTM with attention, 32 inputs of 30 positions, 40 ids, at most 30 steps, beams of 8. The peers call
the same compiled step from a loop over the steps in Python. The first keeps hypotheses as lists of tokens and sorts the
candidates with `sorted`, a common implementation; the second selects the candidates with NumPy and keeps the lists; the
third is ours in eager mode. The script checks that all return the same sequences, alignments and scores. Ratios are
peer / ours, for the median of interleaved rounds and for the fastest.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from keras_dl.ops.decoding import beam_search, greedy_search

ROWS, PLACES, CLASSES, STEPS, WIDTH = 32, 30, 40, 30, 8
START, END = 0, 1
ROUNDS = 15


class Decoder:
    """An LSTM with dot-product attention and input feeding, whose random weights rarely produce the end."""

    def __init__(self, units):
        generator = np.random.default_rng(0)

        def drawn(*shape, deviation=1.0):
            return tf.constant(generator.normal(size=shape) * deviation, tf.float32)

        self.embedding = drawn(CLASSES, units)
        self.kernel = drawn(3 * units, 4 * units, deviation=(3 * units) ** -0.5)
        self.out = drawn(2 * units, CLASSES, deviation=4 * (2 * units) ** -0.5)
        self.bias = tf.one_hot(END, CLASSES) * -3.0
        self.memory = drawn(ROWS, PLACES, units)
        self.state = (tf.zeros([ROWS, units]),) * 3

    def step(self, tokens, time, state, memory):
        hidden, cell, context = state
        gates = tf.concat([tf.gather(self.embedding, tokens), context, hidden], axis=1) @ self.kernel
        enter, forget, new, leave = tf.split(gates, 4, axis=1)
        cell = tf.sigmoid(forget) * cell + tf.sigmoid(enter) * tf.tanh(new)
        hidden = tf.sigmoid(leave) * tf.tanh(cell)
        alignment = tf.nn.softmax(tf.einsum("bsd,bd->bs", memory, hidden))
        context = tf.einsum("bs,bsd->bd", alignment, memory)
        logits = tf.concat([hidden, context], axis=1) @ self.out + self.bias
        return logits, (hidden, cell, context), alignment


def by_sorting(totals):
    """Selects the best candidates `(log probability, beam, token)` of a row by sorting all of them."""
    candidates = [(-total, beam, token) for beam, row in enumerate(totals.tolist()) for token, total in enumerate(row)]
    return [(-total, beam, token) for total, beam, token in sorted(candidates)[: 2 * WIDTH]]


def by_numpy(totals):
    """Selects them by a partial sort of the array."""
    flat = totals.reshape(-1)
    some = np.argpartition(-flat, 2 * WIDTH)[: 2 * WIDTH]
    some = some[np.argsort(-flat[some], kind="stable")]
    return list(zip(flat[some].tolist(), *(x.tolist() for x in np.divmod(some, CLASSES)), strict=True))


def python_search(step, state, memory, best_of):
    """Searches with a loop over steps, rows and hypotheses in Python; returns the best sequence of each row."""
    memory, *state = (tf.repeat(tensor, WIDTH, axis=0) for tensor in (memory, *state))
    beams = [[(0.0, [], [])] + [(-np.inf, [], [])] * (WIDTH - 1) for _ in range(ROWS)]
    ended = [(-np.inf, [], [])] * ROWS
    tokens = np.full(ROWS * WIDTH, START, "int32")
    for time_ in range(STEPS):
        logits, state, alignment = step(tf.constant(tokens), tf.constant(time_), state, memory)
        alignment = alignment.numpy().reshape(ROWS, WIDTH, PLACES)
        said = tf.nn.log_softmax(logits).numpy().reshape(ROWS, WIDTH, CLASSES)
        parents = []
        for row in range(ROWS):
            totals = np.array([total for total, *_ in beams[row]], "float32")[:, None] + said[row]
            following = []
            for rank, (total, beam, token) in enumerate(best_of(totals)):
                _, labels, attended = beams[row][beam]
                if token != END and len(following) < WIDTH:
                    following.append((total, [*labels, token], [*attended, alignment[row, beam]]))
                    parents.append(row * WIDTH + beam)
                elif token == END and rank < WIDTH and total > ended[row][0]:
                    ended[row] = total, labels, attended
            beams[row] = following
        if all(ended[row][0] >= beams[row][0][0] for row in range(ROWS)):
            break
        tokens = np.array([labels[-1] for row in beams for _, labels, _ in row], "int32")
        state = [tf.gather(tensor, parents) for tensor in state]
    return [ended[row] if ended[row][0] > -np.inf else beams[row][0] for row in range(ROWS)], time_ + 1


def check(decoded, answers):
    for row, (total, labels, attended) in enumerate(answers):
        length = int(decoded.lengths[row, 0])
        assert decoded.tokens[row, 0, :length].numpy().tolist() == labels
        np.testing.assert_allclose(decoded.score[row, 0], total, rtol=1e-4)
        np.testing.assert_allclose(
            decoded.alignment[row, 0, :length], np.reshape(attended, [length, PLACES]), atol=1e-4
        )


def measured(functions):
    """Measures each function, interleaved: median and minimum seconds."""
    seconds = {name: [] for name in functions}
    for number in range(ROUNDS + 2):  # the first rounds trace
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if number > 1:
                seconds[name].append(time.perf_counter() - began)
    return {name: (statistics.median(values), min(values)) for name, values in seconds.items()}


def main():
    print(f"{os.cpu_count()} cores; TensorFlow {tf.__version__}, numpy {np.__version__}")
    for units in (32, 128):
        decoder = Decoder(units)
        arguments = dict(start=START, end=END, max_length=STEPS)
        step = tf.function(decoder.step, autograph=False, reduce_retracing=True)
        inputs = decoder.state, decoder.memory
        graph = tf.function(
            lambda state, memory: beam_search(decoder.step, state, memory, beam_width=WIDTH, **arguments),  # noqa: B023
            autograph=False,
        )
        greedy = tf.function(
            lambda state, memory: greedy_search(decoder.step, state, memory, **arguments),  # noqa: B023
            autograph=False,
        )
        peers = {
            "Python, sorted": lambda: python_search(step, *inputs, by_sorting),  # noqa: B023
            "Python, numpy": lambda: python_search(step, *inputs, by_numpy),  # noqa: B023
            "the same, eagerly": lambda: beam_search(step, *inputs, beam_width=WIDTH, **arguments),  # noqa: B023
        }
        answers, steps = peers["Python, sorted"]()
        check(graph(*inputs), answers)
        check(graph(*inputs), peers["Python, numpy"]()[0])
        check(peers["the same, eagerly"](), answers)
        times = measured({"graph": lambda: graph(*inputs), "greedy, graph": lambda: greedy(*inputs), **peers})  # noqa: B023
        print(f"\n{units} units, {steps} steps, labels {np.mean([len(labels) for _, labels, _ in answers]):.1f}")
        for name, (median, least) in times.items():
            ratios = median / times["graph"][0], least / times["graph"][1]
            print(f"  {name:18} median {median * 1e3:7.1f} ms, fastest {least * 1e3:7.1f} ms", end="   ")
            print(f"{ratios[0]:5.1f}x the graph's (fastest {ratios[1]:.1f}x)", flush=True)


if __name__ == "__main__":
    main()
