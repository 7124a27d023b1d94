"""The rule for the champion."""

import math


def verdict(present: dict | None, new: dict) -> tuple[bool, str]:
    """Whether a version becomes the champion, and why: better on the same metric and test data, by more than noise.

    Noise is the larger of the two spreads, the standard deviations over executions; 0 where none is known.

    Args:
        present: the champion's tags, as `register` writes them; None if there is none.
        new: the version's tags.

    Returns:
        `(wins, reason in words)`.
    """
    metric, value = new["metric"], float(new["value"])
    if not math.isfinite(value):
        return False, f"{metric} is {value}"
    if present is None:
        return True, "the first version"
    if present.get("metric") != metric:
        return False, f"the champion was judged by {present.get('metric')}, this one by {metric}"
    if present.get("fingerprint") != new["fingerprint"]:
        return False, "the champion was judged on other test data"
    held, noise = float(present["value"]), max(_spread(present), _spread(new))
    if not math.isfinite(held):
        return True, f"{metric} {value:.4g} beats {held}"
    gain = held - value if new["direction"] == "min" else value - held
    if gain <= 0:
        return False, f"{metric} {value:.4g} does not beat the champion's {held:.4g}"
    if gain <= noise:
        return False, f"{metric} {value:.4g} beats the champion's {held:.4g} by no more than noise, {noise:.2g}"
    return True, f"{metric} {value:.4g} beats {held:.4g}" + (f" by more than noise, {noise:.2g}" if noise else "")


def _spread(tags):
    spread = float(tags.get("spread", 0))
    return spread if math.isfinite(spread) else 0.0
