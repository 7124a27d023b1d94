"""Generated tasks that test the memory of recurrent layers."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.builders.base import BaseBuilder
from keras_dl.errors import UserError

EXAMPLES = {"train": 4000, "validation": 500}
TEST_EXAMPLES = 200  # per size


@dataclasses.dataclass(frozen=True)
class Task:
    """The definition of a task.

    Args:
        draw: function of `(generator, size)` that returns `(inputs [T, D], targets [T, K], weights [T])`.
        size: str, the meaning of an example's size.
        train, validation: (smallest, largest) size, drawn uniformly.
        test: the sizes in the test split, with `TEST_EXAMPLES` examples each, or one if `single`.
        single: whether there is only one example of each size.
        inputs, outputs: int, D and K.
    """

    draw: callable
    size: str
    train: tuple
    validation: tuple
    test: tuple
    single: bool
    inputs: int
    outputs: int


@dataclasses.dataclass(eq=False)
class SequenceMemoryConfig(tfds.core.BuilderConfig):
    """The task, one of `TASKS`."""

    task: str = "anbn"


class SequenceMemory(BaseBuilder):
    """Five classic tasks, trained on short sequences and tested on short and longer ones.

    | task              | input of a step            | target                                       | training size |
    |-------------------|----------------------------|----------------------------------------------|---------------|
    | `adding`          | a number, a mark           | at the end, the sum of the two marked        | T 10 to 30    |
    | `copy`            | a pattern of 3 bits, a cue | after a delay and the cue, the four patterns | delay 1 to 10 |
    | `anbn`, `anbncn`  | a symbol                   | all symbols that may follow                  | n 1 to 10     |
    | `binary_addition` | one bit of each number     | that bit of the sum; lowest bits first       | 8 bits        |

    `anbn` and `anbncn` have only one string per n, so validation has longer ones, n 11 to 20, and the test split has n
    1 to 60, including those. The other tasks draw validation from the training sizes, and no example is in two splits.

    Features: `inputs` float32 `[T, D]`; `targets` float32 `[T, K]`, numbers for `adding`, otherwise 0 or 1; `weights`
    float32 `[T]`, 1 where there is a target and 0 elsewhere; `size` int64, the size of the example: T, delay, n or
    bits. All draws derive from one seed.

    Sources: Hochreiter and Schmidhuber 1997, "Long short-term memory" (adding, with one mark in each half); Graves
    et al. 2014, "Neural Turing machines" (copy); Gers and Schmidhuber 2001, "LSTM recurrent networks learn simple
    context free and context sensitive languages".
    """

    SEED = 2024

    def __init__(self, task="anbn", **kwargs):
        if "config" not in kwargs:
            if task not in TASKS:
                raise UserError(f"task must be one of {', '.join(TASKS)}. Received: {task}")
            kwargs["config"] = SequenceMemoryConfig(name=task, task=task)
        super().__init__(**kwargs)

    def _info(self):
        task = TASKS[self.builder_config.task]
        features = {
            "inputs": tfds.features.Tensor(shape=(None, task.inputs), dtype=np.float32),
            "targets": tfds.features.Tensor(shape=(None, task.outputs), dtype=np.float32),
            "weights": tfds.features.Tensor(shape=(None,), dtype=np.float32),
            "size": tfds.features.Scalar(dtype=np.int64),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        splits = generate(self.builder_config.task, self.SEED)
        return {split: enumerate(examples) for split, examples in splits.items()}


def generate(task, seed):
    """Generates a task, reproducibly for a seed: `{split: [{"inputs", "targets", "weights", "size"}, ...]}`.

    Example:

    >>> {split: len(examples) for split, examples in generate("anbn", seed=0).items()}
    {'train': 4000, 'validation': 10, 'test': 60}
    """
    kind, seen, splits = TASKS[task], set(), {}
    for order, split in enumerate(("train", "validation", "test")):
        generator = np.random.default_rng([seed, order])
        sizes = _sizes(kind, split, generator)
        splits[split] = [_example(kind, generator, int(size), seen) for size in sizes]
        seen |= {example["inputs"].tobytes() for example in splits[split]}
    return splits


def _sizes(kind, split, generator):
    if split == "test":
        return np.repeat(kind.test, 1 if kind.single else TEST_EXAMPLES)
    low, high = getattr(kind, split)
    if kind.single and split == "validation":
        return range(low, high + 1)
    return generator.integers(low, high + 1, size=EXAMPLES[split])


def _example(kind, generator, size, seen):
    while True:
        inputs, targets, weights = kind.draw(generator, size)
        if kind.single or inputs.astype(np.float32).tobytes() not in seen:
            arrays = {"inputs": inputs, "targets": targets, "weights": weights}
            return {name: array.astype(np.float32) for name, array in arrays.items()} | {"size": size}


def adding(generator, length):
    """Draws numbers from 0 to 1, two of them marked; the target of the last step is their sum.

    Example:

    >>> inputs, targets, weights = adding(np.random.default_rng(0), 10)
    >>> float(inputs[:, 0] @ inputs[:, 1]) == float(targets[-1, 0]), float(inputs[:, 1].sum()), weights.tolist()[-2:]
    (True, 2.0, [0.0, 1.0])
    """
    half = length // 2
    marks = np.zeros(length)
    marks[[generator.integers(half), half + generator.integers(length - half)]] = 1
    numbers = generator.uniform(size=length)
    targets, weights = np.zeros((length, 1)), np.zeros(length)
    targets[-1], weights[-1] = numbers @ marks, 1
    return np.stack([numbers, marks], axis=1), targets, weights


def copy(generator, delay, patterns=4, bits=3):
    """Draws bit patterns, followed by a delay and a cue; the targets after the cue are the same patterns.

    Example:

    >>> inputs, targets, weights = copy(np.random.default_rng(0), 2)
    >>> weights.astype(int).tolist(), bool((inputs[:4, :3] == targets[-4:]).all())
    ([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], True)
    """
    inputs = np.zeros((2 * patterns + delay, bits + 1))
    targets, weights = np.zeros((len(inputs), bits)), np.zeros(len(inputs))
    inputs[:patterns, :bits] = targets[-patterns:] = generator.integers(0, 2, (patterns, bits))
    inputs[patterns + delay, bits] = 1
    weights[-patterns:] = 1
    return inputs, targets, weights


def counting(symbols):
    """Returns the function that draws a^n b^n ...: a start symbol, then each symbol n times.

    The targets are the symbols that may follow: a or b after an a; exactly one symbol from the first b on; the start
    symbol at the end.

    Args:
        symbols: int, the number of distinct symbols.

    Example:

    >>> inputs, targets, _ = counting(2)(None, 2)
    >>> [int(row.argmax()) for row in inputs]                    # 0 is the start
    [0, 1, 1, 2, 2]
    >>> [np.flatnonzero(row).tolist() for row in targets]
    [[1], [1, 2], [1, 2], [2], [0]]
    """

    def draw(generator, n):
        ids = np.concatenate([[0], np.repeat(np.arange(1, symbols + 1), n)])
        inputs = np.eye(symbols + 1)[ids]
        targets = np.eye(symbols + 1)[np.append(ids[1:], 0)]
        targets[1 : n + 1, 1:3] = 1
        return inputs, targets, np.ones(len(ids))

    return draw


def binary_addition(generator, bits):
    """Draws two binary numbers, lowest bits first; the targets are the bits of their sum, which has one more.

    Example:

    >>> inputs, targets, _ = binary_addition(np.random.default_rng(0), 8)
    >>> powers = 2.0 ** np.arange(9)
    >>> bool((powers @ inputs).sum() == (powers @ targets)[0])
    True
    """
    inputs = np.zeros((bits + 1, 2))
    inputs[:bits] = generator.integers(0, 2, (bits, 2))
    targets, carry = np.zeros((bits + 1, 1)), 0
    for step, (first, second) in enumerate(inputs):
        carry, targets[step] = divmod(first + second + carry, 2)
    return inputs, targets, np.ones(bits + 1)


TASKS = {
    "adding": Task(adding, "T", (10, 30), (10, 30), (10, 20, 30, 60, 120), False, 2, 1),
    "anbn": Task(counting(2), "n", (1, 10), (11, 20), tuple(range(1, 61)), True, 3, 3),
    "anbncn": Task(counting(3), "n", (1, 10), (11, 20), tuple(range(1, 61)), True, 4, 4),
    "binary_addition": Task(binary_addition, "bits", (8, 8), (8, 8), (8, 16, 32), False, 2, 1),
    "copy": Task(copy, "delay", (1, 10), (1, 10), (1, 5, 10, 20, 40), False, 4, 3),
}
