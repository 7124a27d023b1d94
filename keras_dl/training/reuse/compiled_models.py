"""Shares a compiled model between training runs that differ only in numbers that do not change its graph."""

import keras

from keras_dl.compat.keras import flat_layers, is_distributed, reset_fit_state
from keras_dl.training.reuse.description import Description, Unknown, trusted
from keras_dl.training.reuse.traced_numbers import Step, TracedNumbers

# Numbers that may differ between models: those that Keras' classes and ours read only within a step. If a graph depends
# on more than the value of a number, `TracedNumbers` detects it.
NUMBERS = (
    (keras.layers.Layer, {"rate", "dropout", "recurrent_dropout", "_dropout", "stddev", "seed"}),
    (keras.random.SeedGenerator, {"_initial_seed"}),
    (keras.initializers.Initializer, {"seed", "_init_seed", "stddev", "scale", "gain", "minval", "maxval"}),
    (keras.losses.Loss, {"label_smoothing"}),
    (keras.metrics.Metric, {"label_smoothing"}),
    (keras.optimizers.Optimizer, {"weight_decay", "clipnorm", "clipvalue", "global_clipnorm"}),
    (keras.optimizers.Optimizer, {"momentum", "beta_1", "beta_2", "rho", "epsilon"}),
)


def may_differ(owner, name: str) -> bool:
    """Returns whether one graph can serve two models that differ in this number of an object."""
    if not trusted(type(owner)):
        return False
    if isinstance(owner, keras.optimizers.schedules.LearningRateSchedule):
        return True
    return any(isinstance(owner, kind) and name in names for kind, names in NUMBERS)


class CompiledModels:
    """A cache of compiled models, each reused by training runs whose graph would be the same.

    Tracing and compiling a small model takes longer than training it. A fresh model is still built for each training
    run, since building is cheap and determines initial values, seeds and numbers exactly. It is then compared with the
    cached models leaf by leaf: layers, optimizer, loss, metrics, functions and their closures. If it differs from a
    cached model only in the values of variables and in numbers such as rates, the cached model takes these values and
    is trained in its place. If anything else differs or cannot be compared, the fresh model itself is trained.

    Results are bit-identical to those of a fresh model that was passed to `take`. `most` models are cached; the least
    recently used is dropped. `reused` counts how often a model was reused.

    Example:

    >>> models = CompiledModels()
    >>> def build(rate):
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile(keras.optimizers.Adam(rate), "mse")
    ...     return model
    >>> models.take(build(0.1)) is models.take(build(0.2))
    True
    """

    def __init__(self, most: int = 4):
        self.most, self.reused = most, 0
        self._kept = []  # ordered by last use

    def take(self, fresh: keras.Model) -> keras.Model:
        """Returns a model to train in place of a fresh one, compiled and untrained: itself, or a cached one that now
        equals it.
        """
        if not _comparable(fresh):
            return fresh
        if not fresh.optimizer.built:
            fresh.optimizer.build(fresh.trainable_variables)
        try:
            description = Description(fresh, may_differ)
        except Unknown:
            return fresh
        self._kept = [kept for kept in self._kept if kept.numbers.reusable]
        for kept in reversed(self._kept):
            if kept.serves(description):
                self._kept.remove(kept)
                if not kept.is_sound():
                    break
                kept.become(description)
                self._kept.append(kept)
                self.reused += 1
                return kept.model
        self._kept = [*self._kept[-self.most + 1 :], _Kept(fresh, description)]
        return fresh


class _Kept:
    """A cached model whose graphs are valid for other numbers too."""

    def __init__(self, model, description):
        self.model, self.description = model, description
        self.numbers = TracedNumbers(description.places)
        for name in ("train_step", "test_step", "predict_step"):
            Step(model, name, self.numbers)

    def serves(self, other):
        """Returns whether this model can replace a fresh one."""
        return self.description.tokens == other.tokens and self.numbers.fit(other.values())

    def is_sound(self):
        """Returns whether the model is still as it was built: callbacks may have changed more than variables."""
        try:
            return Description(self.model, may_differ).tokens == self.description.tokens
        except Unknown:
            return False

    def become(self, other):
        """Assigns the values of a fresh model."""
        for variable, fresh in zip(self.description.variables, other.variables, strict=True):
            variable.assign(fresh.value if isinstance(fresh, keras.Variable) else fresh)
        self.numbers.assign(other.values())
        for (owner, key), (fresh, _) in zip(self.description.declared, other.declared, strict=True):
            owner[key] = fresh[key]
        self.model.reset_metrics()
        reset_fit_state(self.model)


def _comparable(model):
    """Returns whether a model uses Keras' own `fit`, is completely built, and trains with gradients on one device."""
    return (
        isinstance(model, keras.Model)
        and type(model).fit is keras.Model.fit
        and model.built
        and all(layer.built for layer in flat_layers(model))
        and model.compiled
        and isinstance(model.optimizer, keras.optimizers.Optimizer)
        and bool(model.trainable_variables)
        and not model.run_eagerly
        and not is_distributed(model)
    )
