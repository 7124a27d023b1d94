"""How often a decoder in training is given its own words instead of the right ones."""

import math

import keras
from keras import ops

KINDS = ("constant", "linear", "exponential", "inverse_sigmoid")


def teacher_forcing_probability(kind, step, rate, least=0.0):
    """The probability that a decoder gets the right token, after so many batches of training.

    | kind | probability at step i |
    |---|---|
    | `constant` | `rate` |
    | `linear` | `max(least, 1 - rate i)` |
    | `exponential` | `rate^i`, rate below 1 |
    | `inverse_sigmoid` | `rate / (rate + exp(i / rate))`, rate at least 1 |

    Args:
        kind: str, a row of the table.
        step: int from 0.
        rate: float, as the table says.
        least: float, below which the probability never falls. Defaults to 0.

    Returns:
        float from 0 to 1.

    Raises:
        ValueError: for an unknown kind or a rate out of range.

    Example:

    >>> [teacher_forcing_probability("linear", step, rate=0.25, least=0.4) for step in (0, 1, 4)]
    [1.0, 0.75, 0.4]

    Reference: Bengio et al. 2015, "Scheduled sampling for sequence prediction with recurrent neural networks", section
    2.4, https://arxiv.org/abs/1506.03099
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: {kind!r}")
    highest = math.inf if kind == "inverse_sigmoid" else 1
    lowest = 1 if kind == "inverse_sigmoid" else 0
    if not lowest <= rate <= highest:
        raise ValueError(f"the rate of {kind} must be from {lowest} to {highest}. Received: {rate}")
    if kind == "constant":
        probability = rate
    elif kind == "linear":
        probability = 1 - rate * step
    elif kind == "exponential":
        probability = rate**step
    else:
        probability = rate / (rate + math.exp(min(step / rate, 700)))
    return max(least, probability)


def drawn_places(target, probability, seed):
    """Where a decoder in training is to read its own tokens.

    Args:
        target: int tensor `[B, T]`, what stands there, beginning with the start.
        probability: float32 tensor `[]`, that a token is replaced; each by a draw of its own.
        seed: as for every function of `keras.random`.

    Returns:
        bool tensor `[B, T]`, never True at the start nor at padding, 0.

    Example:

    >>> ops.convert_to_numpy(drawn_places(ops.array([[2, 7, 0]]), probability=1.0, seed=0)).tolist()
    [[False, True, False]]
    """
    drawn = keras.random.uniform(ops.shape(target), dtype="float32", seed=seed) < probability
    return drawn & (ops.arange(ops.shape(target)[1]) > 0) & (target != 0)


def mix(target, said, probability, seed):
    """Puts tokens that the decoder said in the place of some that it should have read.

    Args:
        target: int tensor `[B, T]`, what stands there, beginning with the start.
        said: int tensor `[B, T]`, what the decoder said after each.
        probability, seed: see `drawn_places`.

    Returns:
        int tensor `[B, T]`. The start and padding, 0, stay.

    Example:

    >>> ops.convert_to_numpy(mix(ops.array([[2, 7, 0]]), ops.array([[5, 6, 4]]), probability=1.0, seed=0)).tolist()
    [[2, 5, 0]]
    """
    own = ops.roll(ops.cast(said, target.dtype), 1, axis=1)
    return ops.where(drawn_places(target, probability, seed), own, target)


class ScheduledSampling(keras.callbacks.Callback):
    """Lets a decoder hear more and more of what it says itself, while it is trained.

    Sets `model.decoder.sampling_probability` before each batch, and logs it at the end of each epoch as
    `sampling_probability`. The decoder must have been made with `scheduled_sampling=True`.

    Args:
        kind, rate, least: see `teacher_forcing_probability`; sampled is what is not forced.

    Raises:
        ValueError: as that function; when training begins, if the model's decoder does not sample.

    Example:

    >>> ScheduledSampling("inverse_sigmoid", rate=500).sampling(step=0) < 0.01
    True
    """

    def __init__(self, kind, rate, least=0.0):
        super().__init__()
        self.kind, self.rate, self.least = kind, rate, least
        self.sampling(0)

    def sampling(self, step):
        """The probability that the decoder gets its own token at a step of training."""
        return 1 - teacher_forcing_probability(self.kind, step, self.rate, self.least)

    def on_train_begin(self, logs=None):
        if getattr(getattr(self.model, "decoder", None), "sampling_probability", None) is None:
            raise ValueError("ScheduledSampling needs a model whose decoder has scheduled_sampling=True")

    def on_train_batch_begin(self, batch, logs=None):
        # The optimizer's count is saved and goes on after an interruption.
        step = int(self.model.optimizer.iterations)
        self.model.decoder.sampling_probability.assign(self.sampling(step))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["sampling_probability"] = float(self.model.decoder.sampling_probability)
