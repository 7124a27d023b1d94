"""Which running trials are not worth their remaining epochs, judged by the other trials of the search."""

import math
import statistics

NAMES = ("median", "halving")

# Trials that must have come as far before one is judged by them.
AT_LEAST = 3
FACTOR = 3


def should_stop(rule: str | None, oracle, trial, step: int) -> bool:
    """Whether a trial should end after this epoch.

    `"median"` (Golovin et al. 2017, section 3.2.2): its best objective so far is worse than the median of the other
    trials' means over the same epochs. `"halving"` (ASHA, Li et al. 2020): after 1, 3, 9, ... epochs only the better
    third of all trials that came so far goes on. Neither judges by fewer than three other trials.

    Args:
        rule: None, `"median"` or `"halving"`.
        oracle: with `trials` and `objective`.
        trial: the running one.
        step: int, its epoch, from 0.
    """
    if rule is None:
        return False
    name, sign = oracle.objective.name, 1 if oracle.objective.direction == "min" else -1

    def curve(of):
        if not of.metrics.exists(name):
            return []
        points = (point for point in of.metrics.get_history(name) if point.step <= step)
        return [sign * point.value[0] for point in points if math.isfinite(point.value[0])]

    def reached(of):
        return of.metrics.exists(name) and any(point.step >= step for point in of.metrics.get_history(name))

    # A trial of the same bracket of Hyperband, or one that failed, says nothing of the epochs it did not see.
    others = [curve(other) for other in oracle.trials.values() if other is not trial and reached(other)]
    others = [points for points in others if points]
    own = curve(trial)
    if len(others) < AT_LEAST or not own:
        return False
    if rule == "median":
        return min(own) > statistics.median(statistics.fmean(points) for points in others)
    epochs = step + 1
    if FACTOR ** round(math.log(epochs, FACTOR)) != epochs:
        return False
    ranked = sorted(min(points) for points in [*others, own])
    return min(own) > ranked[max(len(ranked) // FACTOR, 1) - 1]
