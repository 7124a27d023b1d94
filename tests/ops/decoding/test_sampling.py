import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.decoding import greedy_search, nucleus_size, sample_search

from .toy_decoders import Toy, answer, tables

START, END, STEPS = 0, 2, 4


def sampled(toy, state=None, memory=None, **arguments):
    state, memory = (toy.state if state is None else state), (toy.memory if memory is None else memory)
    return sample_search(toy.step, state, memory, **(dict(start=START, end=END, max_length=STEPS) | arguments))


def many(toy, count):
    """Returns state and memory of the first row, repeated `count` times."""
    return tf.nest.map_structure(lambda x: x if x is None else tf.repeat(x[:1], count, axis=0), (toy.state, toy.memory))


@pytest.mark.parametrize("arguments", [dict(temperature=0.0), dict(top_k=1), dict(top_p=1e-6), dict(temperature=1e-20)])
def test_the_limit_is_greedy(arguments):
    toy = Toy(1, rows=6, classes=6)
    greedy = greedy_search(toy.step, toy.state, toy.memory, start=START, end=END, max_length=8)
    for one, other in zip(greedy, sampled(toy, seed=3, max_length=8, **arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@functools.cache
def sampled_in_graph(count):
    """Returns a toy, and `count` samples of its first row in a graph that accepts all options."""
    toy = Toy(2, sharpness=1.0)
    state, memory = many(toy, count)
    specs = [tf.TensorSpec([]), tf.TensorSpec([], tf.int32), tf.TensorSpec([])]

    @tf.function(input_signature=specs, autograph=False)
    def search(temperature, top_k, top_p):
        return sampled(toy, state, memory, seed=tf.range(count), temperature=temperature, top_k=top_k, top_p=top_p)

    return toy, search


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 3, 1.0), (1.5, 3, 0.7), (2.0, 0, 0.6)]
)
def test_frequencies_match_the_probabilities(temperature, top_k, top_p):
    count = 4000
    toy, search = sampled_in_graph(count)
    decoded = search(temperature, top_k, top_p)
    table = tables(toy, START, END, STEPS)[0]

    def chances(labels):
        """Returns the probabilities of the next token, from the definition."""
        probability = np.exp(table[labels][0] / temperature)
        order = np.argsort(-probability)[: top_k or None]
        probability = np.where(np.isin(np.arange(len(probability)), order), probability, 0)
        probability /= probability.sum()
        fewest = next(n for n in range(1, len(order) + 1) if probability[order[:n]].sum() >= top_p - 1e-9)
        probability = np.where(np.isin(np.arange(len(probability)), order[:fewest]), probability, 0)
        return probability / probability.sum()

    found = {}
    rows = (x.numpy()[:, 0].tolist() for x in (decoded.tokens, decoded.lengths, decoded.finished, decoded.score))
    for tokens, length, finished, score in zip(*rows, strict=True):
        labels = tuple(tokens[:length])
        found[labels, finished] = found.get((labels, finished), 0) + 1
        if found[labels, finished] == 1:
            total = answer(table, labels, END, finished=finished)[1]  # at temperature 1
            np.testing.assert_allclose(score, total, rtol=1e-4)
    expected = 0
    for (labels, finished), number in found.items():
        chain = [*labels, END] if finished else labels
        chance = np.prod([chances(labels[:time])[token] for time, token in enumerate(chain)])
        assert chance > 0 and abs(number / count - chance) < 4.5 * np.sqrt(chance / count)
        expected += chance
    assert expected > 0.95 and len(found) > 3  # the sequences that were never drawn are improbable


def test_a_row_depends_only_on_its_seed_and_inputs():
    toy = Toy(3, rows=4, classes=6, sharpness=1.0)
    arguments = dict(
        seed=[5, 6, 7, 5], temperature=[1.0, 0.7, 2.0, 0.0], top_k=[0, 3, 0, 0], top_p=[1.0, 1.0, 0.8, 1.0]
    )
    together = sampled(toy, max_length=9, **arguments)
    for row in range(4):
        state, memory = tf.nest.map_structure(
            lambda x: x if x is None else x[row : row + 1],  # noqa: B023
            (toy.state, toy.memory),
        )
        own = {name: value[row] for name, value in arguments.items()}
        alone = sampled(toy, state, memory, max_length=12, **own)
        length = int(together.lengths[row, 0])
        assert alone.lengths[0, 0] >= length if length == 9 else alone.lengths[0, 0] == length
        np.testing.assert_array_equal(alone.tokens[0, 0, :length], together.tokens[row, 0, :length])


def test_seeds():
    toy = Toy(4, sharpness=0.5)
    state, memory = many(toy, 30)
    one, again, other = (sampled(toy, state, memory, seed=tf.range(30) + n).tokens.numpy() for n in (0, 0, 100))
    assert (one == again).all() and (one != other).any()
    assert len({row.tobytes() for row in one}) > 10


def test_min_length():
    state, memory = many(Toy(5), 50)
    decoded = sampled(Toy(5), state, memory, seed=tf.range(50), min_length=2)
    assert decoded.lengths.numpy().min() == 2 and decoded.finished.numpy().any()


def test_impossible_tokens():
    assert sampled(Toy(6, holes=1.0), seed=1).score.numpy().tolist() == [[-np.inf]] * 3


def test_the_nucleus_is_the_smallest_set():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=[200, 7]).astype("float32") * 2
    logits[generator.random([200, 7]) < 0.2] = -np.inf
    logits[:, 3] = 0.5
    top_p, top_k = generator.random(200), generator.integers(-1, 9, 200)
    temperature = generator.random(200) * 2 + 0.1
    sizes = nucleus_size(logits, temperature, top_k, top_p).numpy()
    for row in range(200):
        ranked = np.sort(np.exp(logits[row].astype("float64") / temperature[row]))[::-1]
        ranked = ranked[: top_k[row] if top_k[row] > 0 else None]
        masses = np.cumsum(ranked / ranked.sum())
        assert masses[sizes[row] - 1] >= top_p[row] - 1e-6
        assert sizes[row] == 1 or masses[sizes[row] - 2] < top_p[row] + 1e-6


def test_top_p_of_one_allows_all():
    """The first id has probability 1 after rounding; improbable ids must stay possible."""
    assert nucleus_size([[0.0, -40.0, -np.inf, -80.0]], [1.0], [0], [1.0]).numpy() == 3
    assert nucleus_size([[0.0, -40.0, -np.inf, -80.0]], [1.0], [0], [0.999]).numpy() == 1


@pytest.mark.parametrize("top_p", [0, -0.5, 1.5, float("nan")])
def test_invalid_top_p_raises(top_p):
    for given in (top_p, [top_p, 0.5, 0.5], tf.constant(float(top_p))):
        with pytest.raises(ValueError, match="`top_p` must be above 0 and at most 1. Received: "):
            sampled(Toy(0), seed=1, top_p=given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": None}, "`seed` must be a 32-bit integer. Received: None"),
        ({"seed": 2**40}, "`seed` must be a 32-bit integer. Received: 1099511627776"),
        ({"seed": "one"}, "`seed` must be a 32-bit integer. Received: 'one'"),
        ({"seed": [1, 2]}, r"`seed` must be a scalar or have one value per row, 3. Received: \[1, 2\]"),
        ({"top_k": 1.5}, "`top_k` must be a 32-bit integer. Received: 1.5"),
        ({"temperature": float("nan")}, "`temperature` must be a number. Received: nan"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        sampled(Toy(0), **({"seed": 1} | arguments))
