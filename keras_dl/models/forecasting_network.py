"""An echo state network evaluated in closed loop."""

import keras
import numpy as np

from keras_dl.models.checked_batches import as_series
from keras_dl.models.echo_state_network import EchoStateNetwork
from keras_dl.ops.checks import require_count

STARTS = 8
# Larger errors are clipped: such a forecast has diverged, and its distance is meaningless.
LARGEST = 10.0


@keras.saving.register_keras_serializable("keras_dl")
class ForecastingNetwork(EchoStateNetwork):
    """An `EchoStateNetwork` for forecasting whose `evaluate` also measures the closed-loop error.

    Models chosen by the one-step error may diverge in closed loop, so searches should use the closed-loop error.
    `evaluate`, and therefore the logs of `fit` with validation data, include `closed_loop_nrmse`: the NRMSE exactly
    `ahead` steps after the end of the context, over 8 start positions per sequence. Errors are clipped at 10 standard
    deviations.

    Args:
        reservoir: `ESN`, or another recurrent layer.
        units: int, the number of variables of the series.
        ahead: int, steps ahead, fewer than the steps of a sequence. Defaults to 84, as usual for Mackey-Glass.
        **kwargs: as for `EchoStateNetwork`, except `mask_value`.

    Call arguments and output shape: as for `EchoStateNetwork`.

    Raises:
        ValueError: if `ahead` is below 1 or `mask_value` is given; in `evaluate`, if a sequence is shorter than `ahead`
            steps.

    Example:

    >>> from keras_dl.layers import ESN
    >>> wave = np.sin(0.2 * np.arange(600)).reshape(1, -1, 1)
    >>> model = ForecastingNetwork(ESN(100, seed=1), units=1, alpha=1e-8, washout=100)
    >>> model.compile(loss="mse")
    >>> history = model.fit(wave[:, :-1], wave[:, 1:], verbose=0)
    >>> scores = model.evaluate(wave[:, :-1], wave[:, 1:], verbose=0, return_dict=True)
    >>> sorted(scores), scores["closed_loop_nrmse"] < 0.01
    (['closed_loop_nrmse', 'loss'], True)
    """

    def __init__(self, reservoir, units, ahead=84, **kwargs):
        super().__init__(reservoir, units, **kwargs)
        if self.mask_value is not None:
            raise ValueError(
                f"`mask_value` must be None: closed-loop errors are measured without padding. Received: "
                f"{self.mask_value}"
            )
        self.ahead = require_count("ahead", ahead)

    def evaluate(self, x=None, y=None, *args, return_dict=False, **kwargs):
        x, y, _ = as_series(x, y)
        pairs = [(x, y)] if y is not None else x
        if iter(pairs) is pairs:  # a generator can be read only once
            pairs = list(pairs)
            x = (pair for pair in pairs)
        scores = super().evaluate(x, y, *args, return_dict=return_dict, **kwargs)
        if not return_dict:
            return scores
        errors = []
        series = [
            np.concatenate([np.asarray(pair[0], np.float64), np.asarray(pair[1], np.float64)[:, -1:]], axis=1)
            for pair in pairs
        ]
        deviation = np.concatenate([batch.reshape(-1, self.units) for batch in series]).std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1)
        for batch in series:
            room = batch.shape[1] - self.ahead
            if room < 1:
                raise ValueError(f"Expected sequences of {self.ahead} steps or more. Received: {batch.shape[1] - 1}")
            context = max(1, room // 2)
            starts = np.unique(np.linspace(context, room, STARTS).astype(int))
            contexts = np.concatenate([batch[:, start - context : start] for start in starts])
            truth = np.concatenate([batch[:, start + self.ahead - 1] for start in starts])
            forecasts = np.asarray(self.forecast(contexts, self.ahead), np.float64)[:, -1]
            with np.errstate(over="ignore", invalid="ignore"):
                found = np.sqrt(np.mean(np.square((forecasts - truth) / deviation), axis=-1))
            errors.append(np.where(found < LARGEST, found, LARGEST))
        return scores | {"closed_loop_nrmse": float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))}

    def get_config(self):
        return {**super().get_config(), "ahead": self.ahead}
