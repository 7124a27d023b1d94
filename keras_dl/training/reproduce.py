"""Repeats a run from the store and compares the results."""

import json
import math
import tempfile
from pathlib import Path

import keras_tuner as kt
import mlflow
import rich.box
import rich.table

from keras_dl.console import PlainConsole
from keras_dl.data import fingerprint
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.space import read, space
from keras_dl.tracking.environment import environment
from keras_dl.tracking.names import recorded_name, with_mlflow_names
from keras_dl.tracking.runs import connect, log_origin, open_run
from keras_dl.tracking.settings import Settings
from keras_dl.training.configuration import hardware, train_configuration
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData

KINDS = ("train", "search", "trial", "execution")


def reproduce(pipeline: Pipeline, run_id: str, settings: Settings) -> bool:
    """Repeats the training of a run with its values, seed, data and options, and compares the metrics of each epoch.

    The run is one of `keras-dl train`, an execution, a trial (its first execution is repeated) or a search (its best
    trial is repeated). The local pipeline file is used, not the copy in the run: nothing is executed from a store.
    Differences in the file, the packages, the commit and the devices are printed. Returns whether all metrics are
    bit-identical, in the epochs that the run finished.
    """
    connect(settings, pipeline.name)
    run, origin, execution = _find(run_id)
    tags = origin.data.tags
    if tags.get("pipeline") != pipeline.name:
        raise UserError(f"run {run_id} trained the pipeline {tags.get('pipeline')!r}. Received: {pipeline.name!r}")
    for note in _differences(pipeline, run, origin):
        print(f"differs: {note}")
    pipeline.set_training_options(
        objective=tags["goal"],
        epochs=int(tags["epochs"]),
        seed=int(tags["seed"]),
        source=None if tags["data"] == "default" else tags["data"],
        deterministic=tags.get("deterministic") == "True",
        **{name: tags[name] for name in ("precision", "strategy", "jit") if name in tags},
    )
    metrics = run.data.metrics
    if any(recorded_name(name, metrics) not in metrics for name in pipeline.goal.directions):
        raise UserError(f"run {run_id} has no finished epoch to compare with")
    with hardware(pipeline):
        values = space(pipeline, _values(pipeline, run.data.params))
        test = fingerprint(pipeline.data(values).test)
    if tags.get("test_fingerprint", test) != test:
        print(f"differs: the test data are {test}; they were {tags['test_fingerprint']}")
    # A trial that Hyperband promoted continued another trial, which equals one training run over all epochs.
    epochs = int(run.data.params.get("tuner/epochs", pipeline.epochs))
    tags = {"kind": "reproduction", "reproduces": run.info.run_id}
    with open_run(settings, f"reproduction of {run.info.run_name}", tags), tempfile.TemporaryDirectory() as folder:
        log_origin(pipeline)
        mlflow.log_params(with_mlflow_names(values.values))
        progress = train_configuration(
            pipeline,
            values,
            Path(folder),
            CompiledModels(),
            SharedData(pipeline),
            execution=execution,
            epochs=epochs,
            report=_log,
        )
        largest = _compare(run, progress.rows)
        mlflow.log_metric("largest_difference", largest)
    return largest == 0


def pipeline_file(run_id: str, settings: Settings) -> Path:
    """Returns the file in `pipelines/` that a run trained; UserError if the run or the file does not exist."""
    connect(settings)
    name = _find(run_id)[1].data.tags.get("pipeline")
    there = {path.stem: path for path in sorted((settings.root / "pipelines").glob("*.py"))}
    if name not in there:
        raise UserError(
            f"run {run_id} trained the pipeline {name!r}, which is not in {settings.root / 'pipelines'} "
            f"({', '.join(there) or 'nothing is'}): give its file"
        )
    return there[name]


def _log(epoch, logs):
    mlflow.log_metrics(with_mlflow_names({name: float(value) for name, value in logs.items()}), step=epoch)
    print(f"epoch {epoch + 1}: " + "  ".join(f"{name} {value:.4g}" for name, value in logs.items()), flush=True)
    return False


def _find(run_id):
    """Returns the run to repeat, the run with its origin, and the number of the execution."""
    client = mlflow.MlflowClient()
    try:
        run = client.get_run(run_id)
    except mlflow.MlflowException as error:
        raise UserError(f"no run {run_id!r} in {mlflow.get_tracking_uri()}: {error.message}") from error
    if run.data.tags.get("kind") not in KINDS:
        raise UserError(f"run {run_id} was not created by keras-dl: expected a run of kind {', '.join(KINDS)}")
    if run.data.tags["kind"] == "search":
        best = run.data.tags.get("best_trial")
        run = next((child for child in _children(run) if child.info.run_name == best), None)
        if run is None:
            raise UserError(f"the search {run_id} has no best trial: expected a finished search")
    if run.data.tags["kind"] == "trial":
        run = next((child for child in _children(run) if child.data.tags.get("execution") == "0"), run)
    if run.data.tags["kind"] == "train":
        return run, run, 0
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    if run.data.tags["kind"] == "trial":
        return run, parent, 0
    run.data.params.update(parent.data.params)
    return run, client.get_run(parent.data.tags["mlflow.parentRunId"]), int(run.data.tags["execution"])


def _children(run):
    parent = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    return mlflow.search_runs([run.info.experiment_id], parent, output_format="list")


def _values(pipeline, params):
    """Returns the hyperparameters of the pipeline with their values in a run."""
    hp = _Recorded(params)
    pipeline.data(hp)
    pipeline.build(hp)
    return hp.values


class _Recorded(kt.HyperParameters):
    """Hyperparameters with the values of a run, which have MLflow names and are text."""

    def __init__(self, params):
        super().__init__()
        self.params = params

    def _retrieve(self, hp):
        text = self.params.get(recorded_name(hp.name, self.params))
        if text is not None and self.is_active(hp):
            self.values[hp.name] = read(hp, text)
        return super()._retrieve(hp)


def _differences(pipeline, run, origin):
    """Yields sentences about what has changed since the run."""
    try:
        was = json.loads(mlflow.artifacts.load_text(f"{origin.info.artifact_uri}/environment.json"))
    except (mlflow.MlflowException, OSError, ValueError):
        yield "the packages and devices of the run are not known: its environment.json cannot be read"
        was = {"packages": {}}
    now = environment(pipeline.file.parent)
    if {**origin.data.tags, **run.data.tags}.get("pipeline_digest") != pipeline.digest:
        yield f"{pipeline.file.name} has changed; the artifacts of the run contain the earlier file"
    for package, version in was["packages"].items():
        if now["packages"].get(package) != version:
            yield f"{package} is {now['packages'].get(package, 'missing')}, was {version}"
    for name in ("python", "git_commit", "devices"):
        if name in was and was[name] != now.get(name):
            yield f"{name} is {now.get(name)}, was {was[name]}"


def _compare(run, rows):
    """Prints the recorded and the new value of each metric; returns the largest difference."""
    client = mlflow.MlflowClient()
    table = rich.table.Table("metric", "recorded", "now", "largest difference", box=rich.box.SIMPLE_HEAD)
    largest, compared = 0.0, 0
    for name in rows[-1]:
        history = client.get_metric_history(run.info.run_id, recorded_name(name, run.data.metrics))
        points = {point.step: point.value for point in history}
        points = {step: value for step, value in points.items() if step < len(rows)}
        if not points:
            continue
        difference = max(_difference(value, rows[step][name]) for step, value in points.items())
        largest = max(largest, difference)
        last = max(points)
        compared = max(compared, last + 1)
        table.add_row(
            name, f"{points[last]:.6g}", f"{rows[last][name]:.6g}", f"{difference:.3g}" if difference else "none"
        )
    PlainConsole().print(table)
    if compared < len(rows):
        print(f"compared {compared} of {len(rows)} epochs: the run ended there")
    print("identical" if largest == 0 else f"not identical: the largest difference is {largest:.3g}")
    return largest


def _difference(first, second):
    if math.isfinite(first) and math.isfinite(second):
        return abs(first - second)
    return 0.0 if repr(first) == repr(second) else math.inf
