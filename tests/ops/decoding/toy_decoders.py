"""Small decoders whose sequences can be enumerated, and searches over them in plain Python."""

import itertools

import numpy as np
import tensorflow as tf


class Toy:
    """A random decoder whose outputs depend on all previous tokens, through each part of a nested state, and on the
    memory.

    Args:
        seed: int.
        rows, classes, places: int, B, V and S.
        sharpness: float, the approximate deviation of the logits.
        holes: float, the fraction of logits that are -inf.
    """

    def __init__(self, seed, rows=3, classes=4, places=3, sharpness=2.0, holes=0.0):
        self.generator = np.random.default_rng(seed)
        self.classes, self.places = classes, places
        self.into, self.within = self.drawn(classes, 5), self.drawn(5, 5) * 0.7
        self.out, self.attend = self.drawn(5, classes) * sharpness, self.drawn(5, places)
        self.hole = tf.constant(self.generator.random([40, classes]) < holes)
        zeros = tf.zeros([rows, 5])
        self.state = {
            "sum": zeros,
            "last": (tf.zeros([rows, 2, 5]), tf.zeros([rows, 1, 2, 5])),
            "count": tf.zeros([rows], tf.int32),
        }
        self.memory = {"values": self.drawn(rows, places, 5), "none": None, "offset": self.drawn(rows)}

    def drawn(self, *shape):
        return tf.constant(self.generator.normal(size=shape), tf.float32)

    def step(self, tokens, time, state, memory):
        embedded = tf.gather(self.into, tokens) + tf.cast(time, tf.float32) / 3
        total = tf.tanh(state["sum"] @ self.within + embedded + memory["offset"][:, None])
        two, four = state["last"]
        count = (state["count"] * 3 + tokens) % 40
        hidden = total + two[:, 0] + 0.5 * four[:, 0, 1] + tf.cast(count % 3, tf.float32)[:, None]
        alignment = tf.nn.softmax(hidden @ self.attend + tf.reduce_sum(memory["values"], axis=2))
        hidden += tf.einsum("bs,bsd->bd", alignment, memory["values"])
        logits = tf.where(tf.gather(self.hole, count), float("-inf"), hidden @ self.out)
        last = tf.stack([embedded, two[:, 0]], axis=1), tf.stack([two, four[:, 0]], axis=1)[:, :1] * 0.5
        return logits, {"sum": total, "last": last, "count": count}, alignment


class Growing(Toy):
    """A toy whose state contains all inputs and grows by one in each step."""

    def __init__(self, seed, **arguments):
        super().__init__(seed, **arguments)
        self.state = {"read": self.drawn(len(self.memory["offset"]), 0, 5)}

    def step(self, tokens, time, state, memory):
        new = tf.gather(self.into, tokens) + memory["offset"][:, None]
        read = tf.concat([state["read"], new[:, None]], axis=1)
        weights = tf.range(1.0, tf.cast(time, tf.float32) + 1.5)  # each position has its own weight
        hidden = tf.einsum("t,btd->bd", weights, read) + tf.reduce_sum(memory["values"], axis=1)
        return tf.sin(hidden) @ self.out, {"read": read}, tf.nn.softmax(tf.cos(hidden) @ self.attend)


def tables(toy, start, end, steps):
    """Returns for each row `{labels: (log probabilities of the next token [V], alignment [S])}`, for all labels."""
    labels = [label for label in range(toy.classes) if label != end]
    rows = len(toy.memory["offset"])
    found = [{} for _ in range(rows)]
    state, tokens = toy.state, np.full(rows, start, "int32")
    for time in range(steps):
        prefixes = list(itertools.product(labels, repeat=time))
        memory = tf.nest.map_structure(lambda x: x if x is None else tf.repeat(x, len(prefixes), axis=0), toy.memory)  # noqa: B023
        logits, state, alignment = toy.step(tf.constant(tokens), tf.constant(time), state, memory)
        logits = logits.numpy().astype("float64")
        with np.errstate(all="ignore"):
            logits = np.where(np.isnan(logits), -np.inf, logits)
            logits -= logits.max(axis=1, keepdims=True)
            log_probability = np.nan_to_num(
                logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), nan=-np.inf, neginf=-np.inf
            )
        for number, prefix in enumerate(prefixes * rows):
            found[number // len(prefixes)][prefix] = log_probability[number], alignment.numpy()[number]
        state = tf.nest.map_structure(lambda x: tf.repeat(x, len(labels), axis=0), state)
        tokens = np.tile(np.array(labels, "int32"), len(prefixes) * rows)
    return found


def answer(table, labels, end, length_penalty=0.0, coverage_penalty=0.0, finished=True):
    """Returns `(score, log probability, labels, alignment [T, S], finished)` of a sequence, from the definitions."""
    chain = [*labels, end] if finished else labels
    total = sum(table[labels[:time]][0][token] for time, token in enumerate(chain))
    alignment = np.array([table[labels[:time]][1] for time in range(len(labels))])
    score = total / ((5 + len(labels)) / 6) ** length_penalty
    if coverage_penalty:
        covered = alignment.sum(axis=0) if labels else np.zeros(len(table[()][1]))
        score += coverage_penalty * np.log(np.clip(covered, 1e-6, 1)).sum()
    return score, total, labels, alignment, finished


def best(finished, unfinished, paths):
    """Selects the best sequences; unfinished ones fill the places that finished ones leave."""
    finished, unfinished = (
        sorted((one for one in found if one[0] > -np.inf), key=lambda one: -one[0]) for found in (finished, unfinished)
    )
    finished = finished[:paths]
    return sorted(finished + unfinished[: paths - len(finished)], key=lambda one: -one[0])


def all_answers(table, classes, end, steps, min_length, paths, **penalties):
    """Returns the best of all possible sequences."""
    labels = [label for label in range(classes) if label != end]
    sequences = [
        found for time in range(steps) for found in itertools.product(labels, repeat=time) if time >= min_length
    ]
    finished = [answer(table, found, end, **penalties) for found in sequences]
    unfinished = itertools.product(labels, repeat=steps)
    return best(finished, [answer(table, found, end, **penalties, finished=False) for found in unfinished], paths)


def plain_beam_search(table, classes, end, steps, min_length, width, paths, **penalties):
    """Runs the beam search of one row by its definition, without early stopping."""
    beams, ended = [(0.0, ())], []
    for time in range(steps):
        candidates = [
            (total + table[labels][0][token], labels, token)
            for total, labels in beams
            for token in range(classes)
            if token != end or time >= min_length
        ]
        candidates = sorted((one for one in candidates if one[0] > -np.inf), key=lambda one: -one[0])
        ended += [labels for _, labels, token in candidates[:width] if token == end]
        beams = [(total, (*labels, token)) for total, labels, token in candidates if token != end][:width]
    finished = [answer(table, labels, end, **penalties) for labels in ended]
    unfinished = [answer(table, labels, end, **penalties, finished=False) for _, labels in beams]
    return best(finished, unfinished, paths)


def check(decoded, row, expected):
    """Asserts that all fields of a decoded row are as expected."""
    paths, steps = decoded.tokens.shape[1:]
    for path in range(paths):
        tokens = decoded.tokens[row, path].numpy().tolist()
        if path >= len(expected):
            assert tokens == [-1] * steps and decoded.lengths[row, path] == 0 and not decoded.finished[row, path]
            assert decoded.score[row, path] == decoded.log_probability[row, path] == -np.inf
            np.testing.assert_array_equal(decoded.alignment[row, path], 0)
            continue
        score, total, labels, alignment, finished = expected[path]
        assert tokens == [*labels, *[-1] * (steps - len(labels))]
        assert decoded.lengths[row, path] == len(labels) and bool(decoded.finished[row, path]) == finished
        np.testing.assert_allclose(decoded.score[row, path], score, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(decoded.log_probability[row, path], total, rtol=1e-5, atol=1e-5)
        padded = np.zeros(decoded.alignment.shape[2:])
        padded[: len(labels)] = alignment if labels else 0
        np.testing.assert_allclose(decoded.alignment[row, path], padded, atol=1e-5)
