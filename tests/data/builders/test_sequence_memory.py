"""Tests of the memory tasks against independent solutions."""

import numpy as np
import pytest

from keras_dl.data import load
from keras_dl.data.builders.sequence_memory import TASKS, SequenceMemory, generate
from keras_dl.errors import UserError

SINGLE = ("anbn", "anbncn")


@pytest.fixture(scope="module", params=list(TASKS))
def task(request):
    return request.param, generate(request.param, seed=1)


def solve(name, inputs):
    """Computes the weighted targets from the inputs."""
    if name == "adding":
        return [[inputs[inputs[:, 1] == 1, 0].sum()]]
    if name == "copy":
        return inputs[:4, :3]
    if name == "binary_addition":
        first, second = (int("".join(str(int(bit)) for bit in column[::-1]), 2) for column in inputs.T)
        return [[float(bit)] for bit in f"{first + second:0{len(inputs)}b}"[::-1]]
    symbols = "Sabc"[: inputs.shape[1]]
    text = "".join(symbols[row.argmax()] for row in inputs)
    n = text.count("a")
    assert text == "S" + "".join(symbol * n for symbol in symbols[1:])
    follow = [["a"]] + [["a", "b"]] * n + [[symbol] for symbol in text[n + 2 :]] + [["S"]]
    return [[float(symbol in allowed) for symbol in symbols] for allowed in follow]


def test_targets_are_the_solution(task):
    name, splits = task
    for examples in splits.values():
        for example in examples[:100]:
            targets = example["targets"][example["weights"] > 0]
            np.testing.assert_allclose(targets, solve(name, example["inputs"].astype(float)), rtol=1e-6)
            assert set(example["weights"]) <= {0.0, 1.0}
            assert example["inputs"].shape == (len(example["targets"]), TASKS[name].inputs)
            assert example["targets"].shape[1] == TASKS[name].outputs


def test_each_split_has_its_sizes(task):
    name, splits = task
    lengths = {"adding": 0, "copy": 8, "binary_addition": 1, "anbn": 1, "anbncn": 1}
    for split, examples in splits.items():
        sizes = {example["size"] for example in examples}
        declared = getattr(TASKS[name], split)
        assert sizes == set(declared if split == "test" else range(declared[0], declared[1] + 1))
        for example in examples:
            times = {"anbn": 2, "anbncn": 3}.get(name, 1)
            assert len(example["inputs"]) == times * example["size"] + lengths[name]
    assert max(e["size"] for e in splits["test"]) >= 4 * TASKS[name].train[1]


def test_splits_are_disjoint(task):
    name, splits = task
    train, validation, test = ({e["inputs"].tobytes() for e in examples} for examples in splits.values())
    assert not train & validation
    if name not in SINGLE:  # these have one string per length, and the test split includes the training lengths
        assert not train & test and not validation & test


def test_test_sizes_are_equally_frequent(task):
    name, splits = task
    _, counts = np.unique([e["size"] for e in splits["test"]], return_counts=True)
    assert set(counts) == ({1} if name in SINGLE else {200})


def test_marks_of_adding_are_anywhere_in_each_half():
    marks = [(*np.flatnonzero(e["inputs"][:, 1]), e["size"]) for e in generate("adding", 0)["train"]]
    first, second, sizes = np.transpose(marks)
    assert (first < sizes // 2).all() and (second >= sizes // 2).all()
    assert {0, 1} < set(first) and {0, 1} < set(sizes - 1 - second)
    assert {0, 1} <= set(sizes // 2 - 1 - first) and {0, 1} <= set(second - sizes // 2)


def test_the_seed_determines_the_examples():
    same, other = generate("copy", 3), generate("copy", 4)
    for split, examples in generate("copy", 3).items():
        for first, second in zip(examples, same[split], strict=True):
            np.testing.assert_array_equal(first["inputs"], second["inputs"])
    assert any(not np.array_equal(a["inputs"], b["inputs"]) for a, b in zip(same["train"], other["train"], strict=True))


def test_loading_the_data_set():
    splits = load("sequence_memory", task="binary_addition")
    found = [example for example in splits.validation.as_numpy_iterator()]
    expected = generate("binary_addition", 2024)["validation"]
    assert sorted(e["inputs"].tobytes() for e in found) == sorted(e["inputs"].tobytes() for e in expected)
    assert splits.features["targets"].shape == (None, 1)
    assert SequenceMemory().builder_config.name == "anbn"


def test_unknown_tasks_list_the_available_ones():
    with pytest.raises(UserError, match="must be one of adding, anbn, anbncn, binary_addition, copy. Received: parity"):
        load("sequence_memory", task="parity")
