"""The waist of the house: a pipeline is data plus a model over a search space."""

import hashlib
import importlib.util
import inspect
import itertools
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

import keras
import keras_tuner as kt

from keras_dl.data.batches import Splits
from keras_dl.errors import UserError
from keras_dl.objective import Objective, parse_objective


class Pipeline:
    """Data and a model over one search space. Subclass it in a file of its own and give the file to `keras-dl`.

    `keras_tuner.HyperParameters` is the only configuration: range and default stand once, in the call that uses the
    value. `data` and `build` are called several times and must be cheap the second time.

    Attributes:
        name: str, the stem of the file: the MLflow experiment, the registered model, the folder in `saved_models/` and
            TF Serving's model name.
        objective: str, the validation metric that the search improves, or several: `"val_accuracy,val_loss:0.1"`, see
            `parse_objective` (`--objective`). Defaults to `"val_loss"`.
        direction: `"min"` or `"max"` of the first metric; None (default) to tell from its name.
        epochs: int, epochs of one training (`--epochs`). Defaults to 10.
        trials: int, trials of one search (`--trials`). Defaults to 10.
        seed: int, of data order, initial weights and the search (`--seed`). Defaults to 0.
        source: str or None (default), what `--data` says; the pipeline decides what it means.
        precision: `"float32"` (default), `"mixed_float16"` or `"mixed_bfloat16"` (`--precision`).
        strategy: `"none"` (default) or `"mirrored"`, each batch divided among the GPUs (`--strategy`).
        jit: `"auto"` (default, what `compile` says), `"on"` or `"off"`: XLA (`--jit`).
        deterministic: bool, only operations that give the same bits each time (`--deterministic`). Defaults to False.
        nan_patience: int, epochs in a row whose loss or objective may be no number before the training fails. Defaults
            to 0: the first one ends it.
        file: where the pipeline was loaded from.
        custom_objects: the file's own classes and functions, which its saved models may need.

    Example:

    >>> class Wave(Pipeline):
    ...     objective = "val_accuracy"
    ...     def data(self, hp): ...
    ...     def build(self, hp): ...
    >>> Wave().goal
    ('accuracy', 'max')
    """

    name: str = ""
    objective: str = "val_loss"
    direction: str | None = None
    epochs: int = 10
    seed: int = 0
    trials: int = 10
    source: str | None = None
    precision: str = "float32"
    strategy: str = "none"
    jit: str = "auto"
    deterministic: bool = False
    nan_patience: int = 0
    file: Path | None = None
    custom_objects: dict = {}

    def data(self, hp: kt.HyperParameters) -> Splits:
        """Batched train, validation and test data; called for every trial."""
        raise NotImplementedError

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        """A compiled model; called for every trial."""
        raise NotImplementedError

    def callbacks(self, hp: kt.HyperParameters) -> list[keras.callbacks.Callback]:
        """Keras callbacks of one training, such as `EarlyStopping`; made anew for each. None by default.

        What they hold in numbers and arrays is part of the state that an interrupted training goes on from.
        """
        return []

    def signatures(self, model: keras.Model) -> dict:
        """What TF Serving answers: `{name: (function, inputs)}`.

        `inputs` is a list of named `tf.TensorSpec`; the function takes tensors in that order and returns a dictionary
        of named, dense tensors. The default is one signature `serving_default` with the model's own inputs and outputs.
        A name that Keras made up, such as `dense_7`, counts the layers of the process: there it is `output` instead, or
        `output_1`, `output_2` for several, and `input` for inputs.

        Raises:
            UserError: by the default, for a model that does not know its inputs, such as a subclass.
        """
        import tensorflow as tf

        if not getattr(model, "inputs", None):
            raise UserError(
                f"the model of {self.name} does not say what its inputs are: begin a Sequential with keras.Input(...), "
                "or write signatures(model)"
            )
        structure = model.input if hasattr(model, "input") else model.inputs[0]  # a Sequential has only `inputs`
        named = {id(tensor): name for name, tensor in structure.items()} if isinstance(structure, dict) else {}
        input_names = [named.get(id(tensor), tensor.name) for tensor in model.inputs]
        input_names = _lasting(input_names, "input", [_MADE_UP_INPUT.fullmatch(name) for name in input_names])
        inputs = [
            tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
            for tensor, name in zip(model.inputs, input_names, strict=True)
        ]
        # A Sequential model has no names of outputs: its one output is that of its last layer.
        names = getattr(model, "output_names", None) or [model.layers[-1].name]
        operations = {each.name: each for each in getattr(model, "operations", model.layers)}
        names = _lasting(names, "output", [_is_made_up(operations.get(name)) for name in names])

        def call(*tensors):
            outputs = model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False)
            return outputs if isinstance(outputs, dict) else dict(zip(names, keras.tree.flatten(outputs), strict=True))

        return {"serving_default": (call, inputs)}

    def request(self, example) -> dict:
        """`{input name: array with a batch axis}` for the default signature, made of one example of the test split.

        Used for `keras-dl predict NAME --example N` and to try an export. The default takes the model's input as it is,
        a dictionary of inputs with its names.
        """
        inputs = example[0] if isinstance(example, tuple) else example
        if isinstance(inputs, tuple | list):
            raise UserError(f"{self.name} has several inputs without names: write request(example), which names them")
        if isinstance(inputs, dict):
            return {name: keras.ops.convert_to_numpy(array)[None] for name, array in inputs.items()}
        return {"": keras.ops.convert_to_numpy(inputs)[None]}

    def answer(self, example) -> str | None:
        """What is right for that example, in words; None (default) shows nothing."""
        return None

    def report(self, model: keras.Model, splits: Splits) -> dict[str, float]:
        """Further numbers of the best model on the test split, such as baselines; logged as `test_<name>`."""
        return {}

    def pictures(self, model: keras.Model, splits: Splits) -> dict:
        """What the best model does, to look at: `{name: matplotlib figure, or text}`, logged with the run."""
        return {}

    @property
    def goal(self) -> tuple[str, str]:
        """The objective's first metric without `val_`, as it is called on other splits, and its direction."""
        first = self.improves.terms[0]
        return first.name.removeprefix("val_"), first.direction

    @property
    def digest(self) -> str:
        """SHA-256 of the file, by which a search, a worker or a run knows it again."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    @property
    def improves(self) -> Objective:
        """What `objective` and `direction` say."""
        if self.direction not in (None, "min", "max"):
            raise UserError(f"direction must be 'min', 'max' or None. Received: {self.direction!r}")
        return parse_objective(self.objective, self.direction)


_MADE_UP_INPUT = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


def _is_made_up(operation) -> bool:
    """Whether Keras named a layer itself: its class in small letters, and how many there were in this process."""
    plain = re.sub(r"_\d+$", "", operation.name) if operation is not None else ""
    return plain.replace("_", "") == type(operation).__name__.replace("_", "").lower()


def _lasting(names: list[str], kind: str, made_up: list) -> list[str]:
    """The names, but for those that are made up: these say what they are, numbered if there are several."""
    several = sum(map(bool, made_up)) > 1
    numbered = (f"{kind}_{number}" for number in itertools.count(1))
    free = (name for name in itertools.chain([] if several else [kind], numbered) if name not in names)
    return [next(free) if replaced else name for name, replaced in zip(names, made_up, strict=True)]


def load_pipeline(path: str | Path) -> Pipeline:
    """The pipeline of a Python file: its one `Pipeline` subclass, or its functions `data(hp)` and `build(hp)`.

    Args:
        path: the file; its stem must be a Python identifier, for it names the experiment and the served model.

    Raises:
        UserError: if there is no such file, it cannot be imported (with the line at fault), or it holds no pipeline.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise UserError(f"no pipeline file {path}" + (f". In that folder: {', '.join(near)}" if near else ""))
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UserError(f"a pipeline file is called NAME.py, NAME in letters, digits and _. Received: {path.name}")
    module = _import(path)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Pipeline) and value.__module__ == module.__name__
    ]
    if len(classes) > 1:
        raise UserError(f"{path} holds {len(classes)} pipelines; expected one a file")
    if classes:
        pipeline, has = classes[0](), lambda name: getattr(classes[0], name) is not getattr(Pipeline, name)
    else:
        # A bare module: its functions and settings become those of a pipeline.
        functions = [name for name, value in vars(Pipeline).items() if inspect.isfunction(value)]
        members = {n: staticmethod(getattr(module, n)) for n in functions if callable(getattr(module, n, None))}
        settings = [name for name in Pipeline.__annotations__ if name not in ("name", "file", "custom_objects")]
        members |= {name: getattr(module, name) for name in settings if hasattr(module, name)}
        pipeline, has = type(path.stem, (Pipeline,), members)(), members.__contains__
    missing = [name for name in ("data", "build") if not has(name)]
    if missing:
        raise UserError(
            f"{path} has no {' and no '.join(f'{name}(hp)' for name in missing)}: expected a subclass of "
            "keras_dl.Pipeline with data and build, or two functions of these names"
        )
    pipeline.name, pipeline.file = path.stem, path.resolve()
    own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    pipeline.custom_objects = {value.__name__: value for value in own if callable(value)}
    pipeline.goal  # noqa: B018  raises for an objective of unknown direction, before any work
    return pipeline


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"keras_dl_pipeline_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}") from error
    except UserError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        line = frames[-1].lineno if frames else 0
        raise UserError(f"{path}:{line}: {type(error).__name__}: {error}") from error
    return module


def space(pipeline: Pipeline, values: dict | None = None) -> kt.HyperParameters:
    """The search space, found by calling `data` and `build` once, with the given values in place of their defaults.

    Raises:
        UserError: for a name that is not in the space, a value outside its range or of a wrong type, an empty split.
    """
    hp = _Given(values or {})
    splits = pipeline.data(hp)
    if not isinstance(splits, Splits):
        raise UserError(f"data(hp) of {pipeline.name} must return Splits. Received: {type(splits).__name__}")
    splits.check()
    model = pipeline.build(hp)
    if not isinstance(model, keras.Model) or not model.compiled:
        raise UserError(f"build(hp) of {pipeline.name} must return a compiled keras.Model. Received: {model!r}")
    unknown = set(hp.given) - {entry.name for entry in hp.space}
    if unknown:
        known = "; ".join(describe(entry) for entry in hp.space) or "none"
        raise UserError(f"unknown: {', '.join(sorted(unknown))}. This pipeline has: {known}")
    return hp


class _Given(kt.HyperParameters):
    """Hyperparameters with given values; each is checked at the call that declares its range.

    There, and not after `build`: with a wrong value some layer would raise first, and name itself instead.
    """

    def __init__(self, given):
        super().__init__()
        self.given = given
        self.values.update(given)

    def _retrieve(self, hp):
        if hp.name in self.given and not _allowed(hp, self.given[hp.name]):
            raise UserError(f"{hp.name}={self.given[hp.name]!r} is not possible: expected {describe(hp)}")
        return super()._retrieve(hp)


def describe(entry) -> str:
    """One hyperparameter with its range: `"learning_rate from 0.0001 to 0.01 (default 0.003)"`."""
    config = entry.get_config()
    kind = type(entry).__name__
    if kind == "Choice":
        allowed = f"one of {', '.join(str(value) for value in entry.values)}"
    elif kind in ("Int", "Float"):
        step = f" in steps of {config['step']}" if config.get("step") not in (None, 1) else ""
        allowed = f"from {config['min_value']} to {config['max_value']}{step}{' (whole)' if kind == 'Int' else ''}"
    else:
        allowed = "True or False" if kind == "Boolean" else "as given, never searched"
    return f"{entry.name} {allowed} (default {entry.default})"


def _allowed(entry, value) -> bool:
    kind = type(entry).__name__
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "Choice":
        return value in entry.values and type(value) is type(entry.values[0])
    if kind == "Boolean":
        return isinstance(value, bool)
    if kind in ("Int", "Float"):
        if not number or (kind == "Int" and not isinstance(value, int)):
            return False
        steps = (value - entry.min_value) / entry.step if entry.step and entry.sampling == "linear" else 0
        return entry.min_value <= value <= entry.max_value and abs(steps - round(steps)) < 1e-6
    return type(value) is type(entry.default)
