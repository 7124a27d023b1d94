"""Small tasks that show what a recurrent layer can hold, generated."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.errors import UserError

EXAMPLES = {"train": 4000, "validation": 500}
TESTED = 200


@dataclasses.dataclass(frozen=True)
class Task:
    """How a task is drawn, and what the learner has not seen when it is tested.

    Args:
        draw: function of `(generator, size)` that returns `(inputs [T, D], targets [T, K], weights [T])`.
        size: str, what the size of an example is.
        train, validation: (smallest, largest) size, drawn uniformly.
        test: the sizes tested, `TESTED` examples each, or one each where a size has but one example.
        single: whether a size has but one example.
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
    """Which task.

    Args:
        task: one of `TASKS`.
    """

    task: str = "anbn"


class SequenceMemory(tfds.core.GeneratorBasedBuilder):
    """Five classic tasks; each is learned on short sequences and tested on these and on longer ones.

    | task              | in a step                  | to say                                       | trained       |
    |-------------------|----------------------------|----------------------------------------------|---------------|
    | `adding`          | a number, a mark           | at the end, the sum of the two marked        | T 10 to 30    |
    | `copy`            | a pattern of 3 bits, a cue | after a delay and the cue, the four patterns | delay 1 to 10 |
    | `anbn`, `anbncn`  | a symbol                   | every symbol that may follow                 | n 1 to 10     |
    | `binary_addition` | a bit of each number       | that bit of the sum; the lowest bits first   | 8 bits        |

    `anbn` and `anbncn` have one string for each n, so validation has longer ones, n 11 to 20; the test has n 1 to 60,
    all of these among them. The other tasks draw validation from the sizes of training; no example is in two splits.

    Features: `inputs` float32 `[T, D]`; `targets` float32 `[T, K]`, numbers for `adding`, else 0 or 1; `weights`
    float32 `[T]`, 1 where something is to be said, else 0; `size` int64, how long or large the example is: T, the
    delay, n, bits. Every draw comes from one seed.

    Sources: Hochreiter and Schmidhuber 1997, "Long short-term memory" (adding; the marks lie in the two halves); Graves
    et al. 2014, "Neural Turing machines" (copy); Gers and Schmidhuber 2001, "LSTM recurrent networks learn simple
    context free and context sensitive languages".
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    SEED = 2024

    def __init__(self, task="anbn", **kwargs):
        if "config" not in kwargs:
            if task not in TASKS:
                raise UserError(f"the task must be one of {', '.join(TASKS)}. Received: {task}")
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

    def _generate_examples(self):
        raise AssertionError("_split_generators returns the generators themselves")


def generate(task, seed):
    """The examples of a task: `{split: [{"inputs", "targets", "weights", "size"}, ...]}`, the same for a seed.

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
        return np.repeat(kind.test, 1 if kind.single else TESTED)
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
    """Numbers from 0 to 1, two of them marked; at the last step, their sum.

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
    """Patterns of bits, a delay, a cue, and then the patterns again.

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
    """The drawing of a^n b^n ...: a start and then each symbol n times; to say is which symbols may follow.

    After an a that is a or b; after the first b it is certain, and the end is the start of another string.

    Args:
        symbols: int, how many follow one another.

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
    """Two binary numbers, the lowest bits first, and the bits of their sum: one more.

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
