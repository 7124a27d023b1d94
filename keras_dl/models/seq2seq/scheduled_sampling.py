"""Scheduled sampling: training a decoder partly on its own predictions."""

import math

import keras
from keras import ops

KINDS = ("constant", "linear", "exponential", "inverse_sigmoid")


def teacher_forcing_probability(kind, step, rate, least=0.0):
    """Returns the probability that a decoder is fed the true token at a training step.

    | kind | probability at step i |
    |---|---|
    | `constant` | `rate` |
    | `linear` | `max(least, 1 - rate i)` |
    | `exponential` | `rate^i`, rate below 1 |
    | `inverse_sigmoid` | `rate / (rate + exp(i / rate))`, rate at least 1 |

    Args:
        kind: str, see the table.
        step: int >= 0, the number of batches trained so far.
        rate: float, see the table.
        least: float, the lower bound of the probability. Defaults to 0.

    Returns:
        float from 0 to 1.

    Raises:
        ValueError: if the kind is unknown or the rate is out of range.

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
        raise ValueError(f"`rate` must be from {lowest} to {highest} for {kind!r}. Received: {rate}")
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
    """Draws the positions where a decoder reads its own predictions during training.

    Args:
        target: int tensor `[B, T]`, the true tokens, beginning with the start token.
        probability: float32 tensor `[]`, the probability of each position, drawn independently.
        seed: as for every function of `keras.random`.

    Returns:
        bool tensor `[B, T]`, always False at the start token and at padding (0).

    Example:

    >>> ops.convert_to_numpy(drawn_places(ops.array([[2, 7, 0]]), probability=1.0, seed=0)).tolist()
    [[False, True, False]]
    """
    drawn = keras.random.uniform(ops.shape(target), dtype="float32", seed=seed) < probability
    return drawn & (ops.arange(ops.shape(target)[1], dtype="int32") > 0) & (target != 0)


def mix(target, predicted, probability, seed):
    """Replaces some true tokens with the decoder's predictions.

    Args:
        target: int tensor `[B, T]`, the true tokens, beginning with the start token.
        predicted: int tensor `[B, T]`, the predicted token after each position.
        probability, seed: see `drawn_places`.

    Returns:
        int tensor `[B, T]`. The start token and padding (0) are kept.

    Example:

    >>> ops.convert_to_numpy(mix(ops.array([[2, 7, 0]]), ops.array([[5, 6, 4]]), probability=1.0, seed=0)).tolist()
    [[2, 5, 0]]
    """
    shifted = ops.roll(ops.cast(predicted, target.dtype), 1, axis=1)
    return ops.where(drawn_places(target, probability, seed), shifted, target)


class ScheduledSampling(keras.callbacks.Callback):
    """Feeds a decoder more and more of its own predictions during training.

    Sets `model.decoder.sampling_probability` before each batch and logs it at the end of each epoch as
    `sampling_probability`. The decoder must have been created with `scheduled_sampling=True`.

    Args:
        kind, rate, least: see `teacher_forcing_probability`; the sampling probability is its complement.

    Raises:
        ValueError: as for `teacher_forcing_probability`; when training begins, if the model's decoder was not created
            with `scheduled_sampling=True`.

    Example:

    >>> ScheduledSampling("inverse_sigmoid", rate=500).sampling(step=0) < 0.01
    True
    """

    def __init__(self, kind, rate, least=0.0):
        super().__init__()
        self.kind, self.rate, self.least = kind, rate, least
        self.sampling(0)

    def sampling(self, step):
        """Returns the probability that the decoder reads its own prediction at a training step."""
        return 1 - teacher_forcing_probability(self.kind, step, self.rate, self.least)

    def on_train_begin(self, logs=None):
        if getattr(getattr(self.model, "decoder", None), "sampling_probability", None) is None:
            raise ValueError("ScheduledSampling requires a model whose decoder has scheduled_sampling=True")

    def on_train_batch_begin(self, batch, logs=None):
        # The optimizer's counter is saved with the model, so a resumed training run continues the schedule.
        step = int(self.model.optimizer.iterations)
        self.model.decoder.sampling_probability.assign(self.sampling(step))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["sampling_probability"] = float(self.model.decoder.sampling_probability)
