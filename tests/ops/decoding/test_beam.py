"""Beam search, compared to all possible sequences and to a plain implementation."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.decoding import beam_search, greedy_search

from .toy_decoders import Growing, Toy, all_answers, check, plain_beam_search, tables

START, END, STEPS, CLASSES = 2, 1, 4, 4
PENALTIES = [(0.0, 0.0), (1.0, 0.0), (-0.7, 0.0), (0.0, 0.5), (0.6, 0.3)]


def compared(toy, reference, width, paths, min_length=0, steps=STEPS, end=END, penalties=(0.0, 0.0), graph=False):
    """Asserts that every row matches the reference, and returns the latter."""
    names = dict(zip(("length_penalty", "coverage_penalty"), penalties, strict=True))
    search = tf.function(beam_search, autograph=False) if graph else beam_search
    decoded = search(
        toy.step,
        toy.state,
        toy.memory,
        start=START,
        end=end,
        max_length=steps,
        min_length=min_length,
        beam_width=width,
        top_paths=paths,
        **names,
    )
    all_expected = []
    for row, table in enumerate(tables(toy, START, end, steps)):
        widths = (width,) if reference is plain_beam_search else ()
        expected = reference(table, toy.classes, end, steps, min_length, *widths, paths, **names)
        check(decoded, row, expected)
        all_expected.append(expected)
    return all_expected


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize(("seed", "holes", "min_length"), [(0, 0.0, 0), (1, 0.3, 2)])
def test_full_width_is_exhaustive(seed, holes, min_length, penalties):
    toy = Toy(seed, holes=holes)
    compared(
        toy,
        all_answers,
        CLASSES**STEPS,
        6,
        min_length,
        penalties=penalties,
        graph=seed == 0 and penalties == PENALTIES[-1],
    )


def test_all_sequences_are_sorted():
    toy = Toy(3, rows=2, classes=3)
    expected = compared(toy, all_answers, 40, 40, steps=3)
    assert [len(answers) for answers in expected] == [1 + 2 + 4 + 8] * 2  # the eight are unfinished


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize(("width", "paths"), [(1, 1), (2, 2), (3, 1), (5, 4)])
def test_narrow_beams_match_the_plain_search(width, paths, penalties):
    seed = (width + PENALTIES.index(penalties)) % 2
    toy = Toy(10 + seed, sharpness=1 + seed, holes=0.2 * seed)
    compared(toy, plain_beam_search, width, paths, seed, penalties=penalties)


def test_more_beams_than_ids_and_many_steps():
    compared(Toy(5, rows=2, classes=3, sharpness=1.0), plain_beam_search, 7, 7, steps=7, graph=True)


def test_an_impossible_end():
    toy = Toy(6)
    toy.out = tf.concat([toy.out[:, :END], tf.fill([5, 1], np.nan), toy.out[:, END + 1 :]], axis=1)
    expected = compared(toy, plain_beam_search, 3, 3, penalties=(0.5, 0.2))
    assert not any(finished for answers in expected for *_, finished in answers)


def test_impossible_sequences_are_empty():
    toy = Toy(7, holes=1.0)
    assert compared(toy, all_answers, 3, 2) == [[], [], []]


def test_dead_ends_are_empty():
    def step(tokens, time, state, memory):  # after 2, the more probable, nothing is possible
        table = tf.math.log([[0.0, 0.4, 0.6], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        return tf.gather(table, tokens), state, None

    decoded = beam_search(step, (), tf.zeros([1]), start=0, end=0, max_length=3, beam_width=2, top_paths=2)
    assert decoded.tokens.numpy().tolist() == [[[1, -1, -1], [-1, -1, -1]]]
    assert decoded.finished.numpy().tolist() == [[True, False]] and decoded.alignment is None
    greedy = greedy_search(step, (), tf.zeros([1]), start=0, end=0, max_length=3)
    assert greedy.tokens.numpy().tolist() == [[[-1, -1, -1]]] and greedy.score.numpy() == -np.inf
    assert greedy.lengths.numpy() == 0 and not greedy.finished.numpy()


def test_a_growing_state():
    for graph in (False, True):
        compared(Growing(8), plain_beam_search, 3, 3, penalties=(0.5, 0.0), graph=graph)


def test_one_beam_is_greedy():
    toy = Toy(15, rows=6, classes=6)
    arguments = dict(start=START, end=END, max_length=8)
    greedy = greedy_search(toy.step, toy.state, toy.memory, **arguments)
    beam = beam_search(toy.step, toy.state, toy.memory, beam_width=1, **arguments)
    for one, other in zip(greedy, beam, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert len(set(greedy.lengths.numpy().ravel())) > 2


def test_a_row_does_not_depend_on_the_others():
    toy = Toy(11, rows=5, classes=6, sharpness=3.0)
    arguments = dict(start=START, end=END, max_length=9, length_penalty=0.7, coverage_penalty=0.1, top_paths=3)
    together = beam_search(toy.step, toy.state, toy.memory, **arguments)
    for row in (0, 2, 4):
        state, memory = tf.nest.map_structure(
            lambda x: x if x is None else x[row : row + 1],  # noqa: B023
            (toy.state, toy.memory),
        )
        for one, all_ in zip(beam_search(toy.step, state, memory, **arguments), together, strict=True):
            np.testing.assert_allclose(one[0], all_[row], rtol=1e-5, atol=1e-5)


def test_coverage_ignores_masked_positions():
    """Two additional positions without attention change nothing if masked, and are penalized otherwise."""

    def padded(tokens, time, state, memory):
        logits, state, alignment = toy.step(tokens, time, state, memory)
        return logits, state, tf.pad(alignment, [[0, 0], [0, 2]])

    toy = Toy(12)
    arguments = dict(start=START, end=END, max_length=STEPS, coverage_penalty=0.5, top_paths=2)
    plain = beam_search(toy.step, toy.state, toy.memory, **arguments)
    mask = tf.constant([[True] * 3 + [False] * 2] * 3)
    masked = beam_search(padded, toy.state, toy.memory, memory_mask=mask, **arguments)
    np.testing.assert_array_equal(plain.score, masked.score)
    np.testing.assert_array_equal(plain.tokens, masked.tokens)
    open_ = beam_search(padded, toy.state, toy.memory, **arguments)
    np.testing.assert_allclose(open_.score, plain.score + 0.5 * 2 * np.log(1e-6), rtol=1e-5)


def test_nan_alignments_of_impossible_hypotheses_are_ignored():
    """They must not affect the score."""

    def step(tokens, time, state, memory):
        nan = tf.where(tokens == 2, np.nan, 0.5)  # after 2, which is impossible
        return tf.math.log([[0.3, 0.7, 0.0]] * len(tokens)), state, tf.repeat(nan[:, None], 2, axis=1)

    decoded = beam_search(
        step, (), tf.zeros([1]), start=1, end=0, max_length=3, beam_width=3, top_paths=3, coverage_penalty=0.5
    )
    assert decoded.lengths.numpy().tolist() == [[2, 1, 0]] and np.isfinite(decoded.score).all()


def tfa_step(logits, others):
    """Starts with the equally probable hypotheses 2, 3 and 4, followed by the logits of TFA's tests."""

    def step(tokens, time, state, memory):
        table = np.full([2, 3, 5], 0.0001, "float32")
        for place, value in logits.items():
            table[place] = value
        for place, value in others.items():
            table[place] = value
        if time == 0:
            return tf.constant([[-np.inf, -np.inf, 0.0, 0.0, 0.0]] * 2), state, None
        return tf.reshape(table, [6, 5]), state, None

    return beam_search(
        step, (), tf.zeros([2]), start=0, end=0, max_length=2, beam_width=3, top_paths=3, length_penalty=0.6
    )


def test_tfa_beam_step():
    logits = {(0, 0, 2): 1.9, (0, 0, 3): 2.1, (0, 1, 3): 3.1, (0, 1, 4): 0.9}
    logits |= {(1, 0, 1): 0.5, (1, 1, 2): 2.7, (1, 2, 2): 10.0, (1, 2, 3): 0.2}
    decoded = tfa_step(logits, {})
    ids, parents = np.array([[3, 3, 2], [2, 2, 1]]), np.array([[1, 0, 0], [2, 1, 0]])
    assert decoded.tokens.numpy().tolist() == np.stack([parents + 2, ids], axis=2).tolist()
    assert not decoded.finished.numpy().any()


def test_tfa_beam_step_with_an_end():
    """Hypotheses 1 of the first row and 2 of the second end with certainty."""
    logits = {(0, 0, 2): 1.1, (0, 0, 3): 2.1, (1, 0, 1): 0.5, (1, 1, 2): 5.7}
    ended = {(row, beam): [50.0, 0.0, 0.0, 0.0, 0.0] for row, beam in ((0, 1), (1, 2))}
    decoded = tfa_step(logits, ended)
    # Ids [[0, 3, 2], [2, 0, 1]] of parents [[1, 0, 0], [1, 2, 0]].
    assert decoded.tokens.numpy().tolist() == [[[3, -1], [2, 3], [2, 2]], [[3, 2], [4, -1], [2, 1]]]
    assert decoded.finished.numpy().tolist() == [[True, False, False], [False, True, False]]
