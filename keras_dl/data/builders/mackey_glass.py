"""The Mackey-Glass series, a classic benchmark of chaotic series forecasting."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.builders.base import BaseBuilder
from keras_dl.data.builders.series import features
from keras_dl.errors import UserError

STEPS = {"train": 10_000, "validation": 5_000, "test": 5_000}
TRANSIENT = 1_000
DELAYS = (17, 30)


@dataclasses.dataclass(eq=False)
class MackeyGlassConfig(tfds.core.BuilderConfig):
    """The delay `tau` of the series: 17, or 30 for a more chaotic one."""

    tau: int = 17


class MackeyGlass(BaseBuilder):
    """The Mackey-Glass series with a delay of 17 or 30, one value per unit of time.

    `dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t)`, solved by `integrate` from a constant history drawn with
    a seed; the first 1000 values are dropped. As in most of the literature, the values are `tanh(x - 1)`: from -0.52 to
    0.31 for a delay of 17. One series is cut into consecutive splits of 10,000/5,000/5,000 values.

    Features: `series` float64 `[T, 1]`, one example per split.

    Sources: Mackey and Glass 1977, "Oscillation and chaos in physiological control systems"; Jaeger 2001, "The echo
    state approach to analysing and training recurrent neural networks", for tau, step and tanh.
    """

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


def integrate(tau, count, history=1.2, substeps=10):
    """Solves the Mackey-Glass equation with the classic fourth-order Runge-Kutta method with a fixed step.

    The step is `1 / substeps`. The delayed value at the midpoint of a step is interpolated with a cubic Hermite
    polynomial, which keeps the error at fourth order. Only float64 sums, products and quotients are used, so the values
    are bit-identical on all machines; in a chaotic series, rounding differences would grow.

    Args:
        tau: int, the delay.
        count: int, the number of values, beginning at time 0.
        history: float, x(t) for all t <= 0. Defaults to 1.2.
        substeps: int, steps per unit of time. Defaults to 10.

    Returns:
        float64 `[count]`, x at the times 0, 1, 2, ...

    Example:

    >>> integrate(17, 4).round(4).tolist()
    [1.2, 1.1176, 1.043, 0.9755]
    """
    step, lag = 1.0 / substeps, tau * substeps
    x = [float(history)] * (lag + 1)  # x[-1 - lag] is the delayed value
    slopes = [0.0] * lag  # at the same times, except the newest

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
        bend = slopes[index] - slopes[index + 1] if index >= lag else 0.0  # the history is constant
        middle = produced(0.5 * (before + after) + 0.125 * step * bend)
        second = middle - 0.1 * (now + 0.5 * step * first)
        third = middle - 0.1 * (now + 0.5 * step * second)
        fourth = end - 0.1 * (now + step * third)
        x.append(now + step / 6.0 * (first + 2.0 * (second + third) + fourth))
    return np.array(x[lag::substeps])
