"""The Mackey-Glass series: the classic chaotic series to forecast, integrated here."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.builders.series import features
from keras_dl.errors import UserError

STEPS = {"train": 10_000, "validation": 5_000, "test": 5_000}
TRANSIENT = 1_000
DELAYS = (17, 30)


@dataclasses.dataclass(eq=False)
class MackeyGlassConfig(tfds.core.BuilderConfig):
    """Which of the series.

    Args:
        tau: int, the delay: 17, or 30 for a wilder one.
    """

    tau: int = 17


class MackeyGlass(tfds.core.GeneratorBasedBuilder):
    """The Mackey-Glass series with a delay of 17 or 30, one value for each unit of time.

    `dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t)`, by `integrate`, from a constant history drawn with a
    seed; the first 1000 values are left out. As in most of the literature, a value is `tanh(x - 1)`: from -0.52 to 0.31
    for a delay of 17. One series is cut, without a gap, into 10 000/5 000/5 000 values to train, validate and test on.

    Features: `series` float64 `[T, 1]`, one example a split.

    Sources: Mackey and Glass 1977, "Oscillation and chaos in physiological control systems"; Jaeger 2001, "The echo
    state approach to analysing and training recurrent neural networks", for tau, step and tanh.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    SEED = 2024

    def __init__(self, tau=17, **kwargs):
        if "config" not in kwargs:
            if tau not in DELAYS:
                raise UserError(f"tau must be one of {', '.join(map(str, DELAYS))}. Received: {tau}")
            kwargs["config"] = MackeyGlassConfig(name=f"tau_{tau}", tau=tau)
        super().__init__(**kwargs)

    def _info(self):
        return self.dataset_info_from_configs(
            features=features(1), homepage="http://www.scholarpedia.org/article/Mackey-Glass_equation"
        )

    def _split_generators(self, dl_manager):
        history = np.random.default_rng(self.SEED).uniform(1.1, 1.3)
        values = integrate(self.builder_config.tau, TRANSIENT + sum(STEPS.values()), history)
        series = np.tanh(values[TRANSIENT:, None] - 1)
        parts = np.split(series, np.cumsum(list(STEPS.values()))[:-1])
        return {split: [(split, {"series": part})] for split, part in zip(STEPS, parts, strict=True)}

    def _generate_examples(self):
        raise AssertionError("_split_generators returns the generators themselves")


def integrate(tau, count, history=1.2, substeps=10):
    """Solves the Mackey-Glass equation by the classic Runge-Kutta method of fourth order with a fixed step.

    The step is `1 / substeps`. The delayed value in the middle of a step comes from the cubic through the values and
    slopes of both of its ends, so that the error stays of fourth order. Sums and products of float64 alone are used, so
    that the values are the same, bit by bit, wherever they are computed: a chaotic series forgives no rounding.

    Args:
        tau: int, the delay.
        count: int, the number of values; the first is that at time 0.
        history: float, x(t) for every t <= 0. Defaults to 1.2.
        substeps: int, steps for each unit of time. Defaults to 10.

    Returns:
        float64 `[count]`, x at the times 0, 1, 2, ...

    Example:

    >>> integrate(17, 4).round(4).tolist()
    [1.2, 1.1176, 1.043, 0.9755]
    """
    step, lag = 1.0 / substeps, tau * substeps
    x = [float(history)] * (lag + 1)  # x[-1 - lag] is the value of a delay ago
    slopes = [0.0] * lag  # of the same times; the slope of the newest value is added when it is known

    def produced(delayed):
        square = delayed * delayed
        fourth = square * square
        return 0.2 * delayed / (1.0 + fourth * fourth * square)

    for _ in range((count - 1) * substeps):
        now, index = x[-1], len(x) - 1 - lag
        before, after = x[index], x[index + 1]
        start, end = produced(before), produced(after)
        first = start - 0.1 * now
        slopes.append(first)
        bend = slopes[index] - slopes[index + 1] if index >= lag else 0.0  # the history is constant to its very end
        middle = produced(0.5 * (before + after) + 0.125 * step * bend)
        second = middle - 0.1 * (now + 0.5 * step * first)
        third = middle - 0.1 * (now + 0.5 * step * second)
        fourth = end - 0.1 * (now + step * third)
        x.append(now + step / 6.0 * (first + 2.0 * (second + third) + fourth))
    return np.array(x[lag::substeps])
