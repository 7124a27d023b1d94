"""The contract between a user's file and the tools: a pipeline is data plus a model over a search space."""

import hashlib
import importlib.util
import inspect
import itertools
import json
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

import keras
import keras_tuner as kt

from keras_dl.data.batches import Splits
from keras_dl.errors import UserError
from keras_dl.local_modules import local_modules, make_importable
from keras_dl.options import Objective, TrainingOptions


class Pipeline:
    """Data and a model over one search space.

    Subclass it in its own file and pass the file to `keras-dl`. `keras_tuner.HyperParameters` is the only
    configuration system: range and default are stated once, in the call that uses the value. `data` and `build` are
    called several times and must be cheap after the first call.

    Attributes:
        name: str, the stem of the file; also the name of the MLflow experiment, the registered model, the folder in
            `saved_models/` and the model in TensorFlow Serving.
        trials: int, trials of one search (`--trials`). Defaults to 10.
        nan_patience: int, the number of consecutive epochs whose loss or objective may be NaN or infinite before
            training fails. Defaults to 0: the first one ends it.
        file: path of the pipeline's file.
        modules: `{name: path}` of the modules next to the file that it imports; they are part of the pipeline.
        custom_objects: classes and functions of the file and of modules that it imports, which saved models may need.
        objective, direction, epochs, seed, source, precision, strategy, jit, deterministic: see `TrainingOptions`.

    Example:

    >>> class Wave(Pipeline):
    ...     objective = "val_accuracy"
    ...     def data(self, hp): ...
    ...     def build(self, hp): ...
    >>> Wave().goal.test_metric
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
    modules: dict = {}
    custom_objects: dict = {}

    @property
    def training_options(self) -> TrainingOptions:
        """The training options, checked."""
        return TrainingOptions(**{name: getattr(self, name) for name in TrainingOptions.names()})

    def set_training_options(self, **options) -> None:
        """Sets training options by name, after checking all of them.

        Raises:
            UserError: for an invalid option.
        """
        TrainingOptions(**{name: getattr(self, name) for name in TrainingOptions.names()} | options)  # checks them
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def goal(self) -> Objective:
        """The parsed `objective`."""
        return self.training_options.goal

    @property
    def digest(self) -> str:
        """The SHA-256 of the file and its `modules`, which identifies them in searches, workers and runs."""
        digests = self.digests
        if len(digests) == 1:
            return digests[self.file.name]
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """`{path in the folder of the file: SHA-256}` of the file and its `modules`."""
        return {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in self.files.items()}

    @property
    def files(self) -> dict[str, Path]:
        """`{path in the folder of the file: path}` of the file and its `modules`."""
        packages = {
            name: "/__init__.py" if path.name == "__init__.py" else ".py" for name, path in self.modules.items()
        }
        modules = {name.replace(".", "/") + packages[name]: path for name, path in self.modules.items()}
        return {self.file.name: self.file, **modules}

    def data(self, hp: kt.HyperParameters) -> Splits:
        """Returns the batched train, validation and test data; called for every trial."""
        raise NotImplementedError

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        """Returns a compiled model; called for every trial."""
        raise NotImplementedError

    def callbacks(self, hp: kt.HyperParameters) -> list[keras.callbacks.Callback]:
        """Returns new Keras callbacks for one training run, such as `EarlyStopping`; none by default.

        Their numbers and arrays are part of the state from which an interrupted training run resumes.
        """
        return []

    def signatures(self, model: keras.Model) -> dict:
        """Returns the signatures that are served: `{name: (function, inputs)}`.

        `inputs` is a list of named `tf.TensorSpec`; the function takes tensors in that order and returns a dictionary
        of named, dense tensors. The default is one signature, `serving_default`, with the model's inputs and outputs.
        Names that Keras generated, such as `dense_7`, depend on the layers built before; they are replaced with
        `output` (`output_1`, `output_2` for several) and `input`.

        An input that determines how much memory a request takes, such as a number of steps, needs a limit: see
        `keras_dl.ops.checks.limited`.

        Raises:
            UserError: by default, for a model without known inputs, such as a subclass.
        """
        import tensorflow as tf

        if not getattr(model, "inputs", None):
            raise UserError(
                f"the inputs of the model of {self.name} are not known: begin a Sequential with keras.Input(...), or "
                "implement signatures(model)"
            )
        structure = model.input if hasattr(model, "input") else model.inputs[0]  # a Sequential has only `inputs`
        named = {id(tensor): name for name, tensor in structure.items()} if isinstance(structure, dict) else {}
        input_names = [named.get(id(tensor), tensor.name) for tensor in model.inputs]
        input_names = _stable(input_names, "input", [_GENERATED_INPUT.fullmatch(name) for name in input_names])
        inputs = [
            tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
            for tensor, name in zip(model.inputs, input_names, strict=True)
        ]
        # A Sequential model has no output names: its only output is that of its last layer.
        names = getattr(model, "output_names", None) or [model.layers[-1].name]
        operations = {each.name: each for each in getattr(model, "operations", model.layers)}
        names = _stable(names, "output", [_is_generated(operations.get(name)) for name in names])

        def call(*tensors):
            outputs = model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False)
            return outputs if isinstance(outputs, dict) else dict(zip(names, keras.tree.flatten(outputs), strict=True))

        return {"serving_default": (call, inputs)}

    def request(self, example) -> dict:
        """Returns `{input name: array with a batch axis}` for the default signature, from one test example.

        `keras-dl predict NAME --example N` sends it, and every export is tested with it. The default passes the model's
        input through unchanged, under the names of its dictionary if it is one.
        """
        inputs = example[0] if isinstance(example, tuple) else example
        if isinstance(inputs, tuple | list):
            raise UserError(f"{self.name} has several unnamed inputs: implement request(example) to name them")
        if isinstance(inputs, dict):
            return {name: keras.ops.convert_to_numpy(array)[None] for name, array in inputs.items()}
        return {"": keras.ops.convert_to_numpy(inputs)[None]}

    def answer(self, example) -> str | None:
        """Returns the correct answer for an example, as text; None (default) shows nothing."""
        return None

    def report(self, model: keras.Model, splits: Splits) -> dict[str, float]:
        """Returns additional metrics of the best model on the test split, such as baselines; logged as
        `test_<name>`."""
        return {}

    def pictures(self, model: keras.Model, splits: Splits) -> dict:
        """Returns pictures of the best model's results: `{name: matplotlib figure or text}`, logged with the run."""
        return {}


_GENERATED_INPUT = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


def _is_generated(operation) -> bool:
    """Whether Keras generated the name: the class in lower case, with a per-process counter."""
    plain = re.sub(r"_\d+$", "", operation.name) if operation is not None else ""
    return plain.replace("_", "") == type(operation).__name__.replace("_", "").lower()


def _stable(names: list[str], kind: str, generated: list) -> list[str]:
    """Replaces generated names with `kind`, numbered if there are several."""
    several = sum(map(bool, generated)) > 1
    numbered = (f"{kind}_{number}" for number in itertools.count(1))
    free = (name for name in itertools.chain([] if several else [kind], numbered) if name not in names)
    return [next(free) if replaced else name for name, replaced in zip(names, generated, strict=True)]


def load_pipeline(path: str | Path) -> Pipeline:
    """Loads the pipeline of a Python file: its only `Pipeline` subclass, or its functions `data(hp)` and `build(hp)`.

    Args:
        path: the file; its stem must be a Python identifier, as it names the experiment and the served model.

    Raises:
        UserError: if the file does not exist, it or a module next to it cannot be imported (with the line at fault), or
            it contains no pipeline.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise UserError(f"no pipeline file {path}" + (f". In that folder: {', '.join(near)}" if near else ""))
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UserError(f"expected a pipeline file NAME.py with a NAME of letters, digits and _. Received: {path.name}")
    modules = local_modules(path)
    make_importable(path, modules)
    module = _import(path)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Pipeline) and value.__module__ == module.__name__
    ]
    if len(classes) > 1:
        raise UserError(f"{path} contains {len(classes)} pipelines; expected one per file")
    if classes:
        pipeline, has = classes[0](), lambda name: getattr(classes[0], name) is not getattr(Pipeline, name)
    else:
        # A plain module: its functions and settings become those of a pipeline.
        functions = [name for name, value in vars(Pipeline).items() if inspect.isfunction(value)]
        members = {n: staticmethod(getattr(module, n)) for n in functions if callable(getattr(module, n, None))}
        found = ("name", "file", "modules", "custom_objects")
        settings = [name for name in Pipeline.__annotations__ if name not in found]
        members |= {name: getattr(module, name) for name in settings if hasattr(module, name)}
        pipeline, has = type(path.stem, (Pipeline,), members)(), members.__contains__
    missing = [name for name in ("data", "build") if not has(name)]
    if missing:
        raise UserError(
            f"{path} has no {' and no '.join(f'{name}(hp)' for name in missing)}: expected a subclass of "
            "keras_dl.Pipeline with data and build, or two functions of these names"
        )
    pipeline.name, pipeline.file, pipeline.modules = path.stem, path.resolve(), modules
    pipeline.custom_objects = _custom_objects(module, modules)
    pipeline.set_training_options()  # checks those of the file before any work
    return pipeline


# Packages whose objects Keras finds without help.
_KNOWN = {"keras", "keras_dl", "keras_tuner", "numpy", "tensorflow"} | sys.stdlib_module_names
_SAVED = (keras.layers.Layer, keras.metrics.Metric, keras.losses.Loss, keras.optimizers.Optimizer,
          keras.optimizers.schedules.LearningRateSchedule, keras.initializers.Initializer,
          keras.regularizers.Regularizer, keras.constraints.Constraint)  # fmt: skip


def _custom_objects(module, modules):
    """Returns what Keras needs to load a model: it looks objects up by name, and imports no modules itself."""
    imported = [value for value in vars(module).values() if not _is_known(value)]
    packages = [value for value in imported if isinstance(value, ModuleType)]
    found = {}
    for package in packages:
        found |= {name: value for name, value in vars(package).items() if _is_saved(value)}
    beside = [sys.modules[name] for name in modules if name in sys.modules]
    for scope in ([value for value in imported if hasattr(value, "__name__")], *(_own(each) for each in beside)):
        found |= {value.__name__: value for value in scope if callable(value)}
    return found | {value.__name__: value for value in _own(module) if callable(value)}


def _is_known(value):
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
    return name.partition(".")[0] in _KNOWN


def _is_saved(value):
    return inspect.isclass(value) and issubclass(value, _SAVED) and not _is_known(value)


def _own(module):
    return [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]


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
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_beside(frame, path)]
        where, line = (frames[-1].filename, frames[-1].lineno) if frames else (path, 0)
        where = path if where == spec.origin else where
        raise UserError(f"{where}:{line}: {type(error).__name__}: {error}") from error
    return module


def _is_beside(frame, path):
    return Path(frame.filename).resolve().is_relative_to(path.resolve().parent)


def splits_of(pipeline: Pipeline, values: dict) -> Splits:
    """Returns the pipeline's data for the given hyperparameters."""
    hp = kt.HyperParameters()
    hp.values.update(values)
    return pipeline.data(hp)


def example_request(pipeline: Pipeline, values: dict) -> dict:
    """Returns the pipeline's `request` for the first example of its test split."""
    first = next(iter(splits_of(pipeline, values).test.unbatch()))
    return pipeline.request(keras.tree.map_structure(keras.ops.convert_to_numpy, first))
