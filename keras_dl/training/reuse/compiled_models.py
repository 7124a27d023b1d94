"""One compiled model for all trainings that differ only in numbers which do not change its graph."""

import keras

from keras_dl.compat.keras import flat_layers, is_distributed, reset_fit_state
from keras_dl.training.reuse.description import Description, Unknown, trusted
from keras_dl.training.reuse.traced_numbers import HeldNumbers, Step

# The numbers that a model may differ in: what classes of Keras and of ours read in their steps and nowhere else. Where
# a graph depends on more than the value of one, `HeldNumbers` notices.
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
    """Whether two models may differ in this number of an object of theirs, and one graph still serve both."""
    if not trusted(type(owner)):
        return False
    if isinstance(owner, keras.optimizers.schedules.LearningRateSchedule):
        return True
    return any(isinstance(owner, kind) and name in names for kind, names in NUMBERS)


class CompiledModels:
    """The compiled models of this process, each used again by trainings that differ in nothing that its graph holds.

    Tracing and compiling a small model takes longer than training it. A fresh model is still built for each training:
    building is cheap, and gives initial values, seeds and numbers exactly. It is then compared with the kept ones, leaf
    by leaf: layers, optimizer, loss, metrics, functions and what they close over. If it differs from one in nothing but
    the values of variables and numbers such as rates, that one is given these values and trained in its place. Anything
    else that differs, or that cannot be compared, means that the fresh model is trained itself.

    Results are bit-identical to those of a fresh model that passed through here.

    Args:
        most: int, how many models are kept: those used last. Defaults to 4.

    Attributes:
        reused: int, how often a model was used again.

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
        self._kept = []  # the one used last stands last

    def take(self, fresh: keras.Model) -> keras.Model:
        """A model to train in place of a fresh one: that one, or a kept one that is now equal to it.

        Args:
            fresh: compiled and untrained, as `Pipeline.build` returns it.

        Returns:
            `fresh`, or a kept model with its initial values, numbers and seeds, and with its optimizer anew.
        """
        if not _comparable(fresh):
            return fresh
        if not fresh.optimizer.built:
            fresh.optimizer.build(fresh.trainable_variables)
        try:
            description = Description(fresh, may_differ)
        except Unknown:
            return fresh
        self._kept = [kept for kept in self._kept if kept.held.reusable]
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
    """A model whose graphs serve other numbers too."""

    def __init__(self, model, description):
        self.model, self.description = model, description
        self.held = HeldNumbers(description.places)
        for name in ("train_step", "test_step", "predict_step"):
            Step(model, name, self.held)

    def serves(self, other):
        """Whether a fresh model could be replaced by this one."""
        return self.description.tokens == other.tokens and self.held.fit(other.values())

    def is_sound(self):
        """Whether the model is still what it was when it was fresh: callbacks may have changed more than variables."""
        try:
            return Description(self.model, may_differ).tokens == self.description.tokens
        except Unknown:
            return False

    def become(self, other):
        """Takes the values of a fresh model."""
        for variable, fresh in zip(self.description.variables, other.variables, strict=True):
            variable.assign(fresh.value if isinstance(fresh, keras.Variable) else fresh)
        self.held.assign(other.values())
        for (owner, key), (fresh, _) in zip(self.description.declared, other.declared, strict=True):
            owner[key] = fresh[key]
        self.model.reset_metrics()
        reset_fit_state(self.model)


def _comparable(model):
    """Whether a model is one of Keras' own kind, whole before its first step, trained by gradients on one device."""
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
