"""Early stopping of trials that fall behind the other trials of the search."""

import math
import statistics

NAMES = ("median", "halving")

# The number of other trials that must have reached the epoch before a trial is compared with them.
AT_LEAST = 3
FACTOR = 3


def should_stop(rule: str | None, oracle, trial, step: int) -> bool:
    """Decides whether a trial should stop after this epoch.

    `"median"` (Golovin et al. 2017, section 3.2.2) stops a trial whose best objective so far is worse than the median
    of the other trials' means over the same epochs. `"halving"` (ASHA, Li et al. 2020) continues, after 1, 3, 9, ...
    epochs, only the better third of all trials that reached that epoch. Both require at least three other trials.

    Args:
        rule: None, `"median"` or `"halving"`.
        oracle: oracle with `trials` and `objective`.
        trial: the running trial.
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

    # Failed trials, and trials in a lower rung of Hyperband, have not reached every epoch.
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
