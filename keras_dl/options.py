"""Training options that are not hyperparameters, including the objective: one metric or a weighted sum of several."""

import dataclasses
import re

import keras_tuner as kt

from keras_dl.directions import infer_direction
from keras_dl.errors import UserError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("none", "mirrored")
JIT = ("auto", "on", "off")
_CHOICES = {"precision": PRECISIONS, "strategy": STRATEGIES, "jit": JIT, "direction": (None, "min", "max")}


@dataclasses.dataclass(frozen=True)
class Term:
    """One metric of an objective.

    Args:
        name: str, as Keras reports it, such as `"val_loss"`.
        direction: `"min"` or `"max"`.
        weight: float, above 0. Defaults to 1.
    """

    name: str
    direction: str
    weight: float = 1.0


class Objective(kt.Objective):
    """One metric, or the weighted sum of several, which is minimized; metrics to maximize are subtracted.

    Args:
        terms: list of `Term`.

    Example:

    >>> objective = parse_objective("val_accuracy,val_loss:0.1")
    >>> objective.name, objective.direction
    ('objective', 'min')
    >>> round(objective.value({"val_accuracy": 0.9, "val_loss": 2.0}), 6)
    -0.7
    """

    def __init__(self, terms: list[Term]):
        self.terms = tuple(terms)
        single = len(terms) == 1
        super().__init__(terms[0].name if single else "objective", terms[0].direction if single else "min")

    @property
    def test_metric(self) -> tuple[str, str]:
        """The first metric's name on the test split, without `val_`, and its direction."""
        return self.terms[0].name.removeprefix("val_"), self.terms[0].direction

    @property
    def directions(self) -> dict[str, str]:
        """`{metric: "min" or "max"}` of every term."""
        return {term.name: term.direction for term in self.terms}

    def missing(self, logs: dict) -> list[str]:
        """Returns the metrics of this objective that an epoch did not report."""
        return [term.name for term in self.terms if term.name not in logs]

    def value(self, logs: dict) -> float:
        """Returns the objective, computed from the metrics of an epoch."""
        if len(self.terms) == 1:
            return float(logs[self.name])
        return sum(
            float(logs[term.name]) * (term.weight if term.direction == "min" else -term.weight) for term in self.terms
        )


def parse_objective(text: str, direction: str | None = None) -> Objective:
    """Parses an objective such as `"val_loss"`, `"val_accuracy,val_loss:0.1"` or `"val_gain:max"`.

    Args:
        text: metrics separated by commas, each optionally followed by `:WEIGHT` (default 1) and `:min` or `:max`. A
            name with a comma or a colon must be in quotes: `"'val_mAP@[.5:.95]':max"`.
        direction: `"min"` or `"max"`, the direction of the first metric. None (default) infers it from the name (see
            `infer_direction`).

    Raises:
        UserError: for a direction that is neither given nor inferable, a weight that is not positive, or a metric named
            twice.
    """
    if not isinstance(text, str):
        raise UserError(f"objective must be text, such as 'val_accuracy' or 'val_gain:max'. Received: {text!r}")
    terms = []
    for number, part in enumerate(re.split(r",(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)", text)):
        name, *rest = re.findall(r"(?:^|:)('[^']*'|\"[^\"]*\"|[^:]*)", part.strip())
        name = name[1:-1] if re.fullmatch(r"'.+'|\".+\"", name) else name
        given, weight = direction if number == 0 else None, 1.0
        for word in rest:
            if word in ("min", "max"):
                given = word
            elif re.fullmatch(r"\d+\.?\d*(e-?\d+)?|\.\d+", word) and float(word) > 0:
                weight = float(word)
            else:
                raise UserError(
                    "expected NAME:WEIGHT (above 0), NAME:min or NAME:max, and quotes around a NAME with a colon. "
                    f"Received: {part.strip()!r}"
                )
        if not name or name in [term.name for term in terms]:
            raise UserError(f"expected metrics separated by commas, each once. Received: {text!r}")
        terms.append(Term(name, given or infer_direction(name), weight))
    return Objective(terms)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options that, with the hyperparameters and the pipeline's file, determine a training run.

    `Pipeline` has an attribute for each, and the command line an option (`source` is `--data`).

    Args:
        objective: str, the validation metric to improve, or several: `"val_accuracy,val_loss:0.1"`, see
            `parse_objective`. Defaults to `"val_loss"`.
        direction: `"min"` or `"max"`, the direction of the first metric. None (default) infers it from the name.
        epochs: int, epochs of one training run. Defaults to 10.
        seed: int, the seed for the data order, the initial weights and the search. Defaults to 0.
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
