"""Training options that are not hyperparameters."""

import dataclasses

from keras_dl.errors import UserError
from keras_dl.objective import Objective, parse_objective

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("none", "mirrored")
JIT = ("auto", "on", "off")
_CHOICES = {"precision": PRECISIONS, "strategy": STRATEGIES, "jit": JIT, "direction": (None, "min", "max")}


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options that, with the hyperparameters and the pipeline's file, determine a training run.

    `Pipeline` has an attribute for each, and the command line an option (`source` is `--data`).

    Args:
        objective: str, the validation metric to improve, or several: `"val_accuracy,val_loss:0.1"`, see
            `parse_objective`. Defaults to `"val_loss"`.
        direction: `"min"` or `"max"`, the direction of the first metric. None (default) infers it from the name.
        epochs: int, epochs of one training run. Defaults to 10.
        seed: int, the seed of the data order, the initial weights and the search. Defaults to 0.
        source: str, the value of `--data`. Defaults to None.
        precision: `"float32"` (default), `"mixed_float16"` or `"mixed_bfloat16"`.
        strategy: `"none"` (default) or `"mirrored"`, which divides each batch among the GPUs.
        jit: `"auto"` (default) keeps the `jit_compile` of the model; `"on"` or `"off"` overrides it.
        deterministic: bool, whether to use only operations that give the same bits in every run. Defaults to False.

    Raises:
        UserError: for an unknown choice or an invalid objective.

    Example:

    >>> TrainingOptions(objective="val_accuracy", epochs=3).goal.direction
    'max'
    """

    objective: str = "val_loss"
    direction: str | None = None
    epochs: int = 10
    seed: int = 0
    source: str | None = None
    precision: str = "float32"
    strategy: str = "none"
    jit: str = "auto"
    deterministic: bool = False

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(str, choices))
                raise UserError(f"{name} must be one of {known}. Received: {getattr(self, name)!r}")
        parse_objective(self.objective, self.direction)

    @property
    def goal(self) -> Objective:
        """The parsed `objective`."""
        return parse_objective(self.objective, self.direction)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all options."""
        return tuple(field.name for field in dataclasses.fields(cls))
