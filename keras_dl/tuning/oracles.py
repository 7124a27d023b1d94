"""Keras Tuner's four search strategies, each of which can be stopped and gone on with."""

import keras_tuner as kt

NAMES = ("random", "bayesian", "hyperband", "grid")


class _DefaultsFirst:
    """The first trial takes the defaults, so that a search never ends below them."""

    def populate_space(self, trial_id):
        if self.start_order:
            return super().populate_space(trial_id)
        space = self.get_space()
        values = {entry.name: entry.default for entry in space.space if space.is_active(entry)}
        return {"status": "RUNNING", "values": values}


class RandomOracle(_DefaultsFirst, kt.oracles.RandomSearchOracle):
    """Random search (Bergstra and Bengio 2012)."""


class BayesianOracle(_DefaultsFirst, kt.oracles.BayesianOptimizationOracle):
    """Gaussian process with an upper confidence bound (Snoek et al. 2012)."""


class GridOracle(kt.oracles.GridSearchOracle):
    """Every combination, the defaults first. Keras Tuner keeps their order in memory only; here it is saved."""

    def get_state(self):
        order, ids = [], self._ordered_ids
        index = ids._next_index[None]
        while index is not None:
            order.append(ids._memory[index])
            index = ids._next_index[index]
        return {**super().get_state(), "ordered_ids": order, "populate_next": list(self._populate_next)}

    def set_state(self, state):
        super().set_state(state)
        self._ordered_ids = type(self._ordered_ids)()
        for trial_id in state["ordered_ids"]:
            self._ordered_ids.insert(trial_id)
        # A trial is queued after the state is written: all that ended are queued again, tried ones are skipped.
        self._populate_next = list(dict.fromkeys([*state["populate_next"], *state["end_order"]]))


def make_oracle(name: str, objective: kt.Objective, trials: int, epochs: int, seed: int, hp: kt.HyperParameters):
    """The oracle of a name.

    Args:
        name: one of `NAMES`.
        objective: what to improve.
        trials: int, at most so many; Hyperband may end earlier, at the end of its brackets.
        epochs: int, of a full training; Hyperband begins with fewer.
        seed: int. 0 is moved to another number: Keras Tuner reads it as "none".
        hp: values to pin, as `Fixed`.
    """
    common = dict(objective=objective, hyperparameters=hp, seed=seed + 1, max_consecutive_failed_trials=trials + 1)
    if name == "hyperband":
        oracle = kt.oracles.HyperbandOracle(max_epochs=epochs, **common)
        oracle.max_trials = trials
        return oracle
    kind = {"random": RandomOracle, "bayesian": BayesianOracle, "grid": GridOracle}[name]
    return kind(max_trials=trials, **common)
