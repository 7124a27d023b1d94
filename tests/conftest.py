"""Fixtures for all tests: a quiet TensorFlow, a separate folder for data sets, and a clean MLflow."""

import contextlib
import gc
import os
import shutil
import socket
import sys

# Read when TensorFlow, Matplotlib, CUDA and MLflow are first loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest

# Graphs stay in memory for the whole session: with the default thresholds, sweeps over them take about 3% of the time.
gc.set_threshold(200_000, 20, 1000)


@pytest.fixture(scope="session", autouse=True)
def tfds_data_dir(tmp_path_factory):
    """The folder in which this session and its child processes prepare data sets, instead of the user's folder."""
    folder = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", folder)
        # TFDS reads the variable only when it is imported, which may have happened while tests were collected.
        if "tensorflow_datasets" in sys.modules:
            patch.setattr(sys.modules["tensorflow_datasets"].core.constants, "DATA_DIR", folder)
        yield folder


@pytest.fixture(autouse=True)
def plain_graphs(request):
    """Runs graphs as they are traced: TensorFlow's optimization of graphs takes a fifth of the time of small tests.

    Slow tests, and pipelines that run end to end, are optimized as for users.
    """
    if "tensorflow" in sys.modules:
        optimized = request.node.get_closest_marker("slow") or "run_end_to_end" in request.fixturenames
        optimizer = sys.modules["tensorflow"].config.optimizer
        optimizer.set_experimental_options({"disable_meta_optimizer": not optimized})


@pytest.fixture(autouse=True)
def ordinary_operations():
    """Disables deterministic operations, which a reproducible training run enables for the whole process."""
    yield
    if config := sys.modules.get("tensorflow.python.framework.config"):
        config.disable_op_determinism()


@pytest.fixture(autouse=True)
def clean_mlflow():
    """Ends runs that a test left open, and resets the store, the experiment and MLflow's environment variables."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    if "mlflow" in sys.modules:
        mlflow = sys.modules["mlflow"]
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


def free_port():
    """Returns an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="session", name="free_port")
def free_port_fixture():
    return free_port


@pytest.fixture
def largest_file():
    """largest_file(n): a context in which files of this process cannot exceed n bytes."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An empty MLflow SQLite store: creating one takes seconds, copying it is immediate."""
    import mlflow

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    """The settings of a new project in the current folder, with `mlflow.yaml` and an empty store."""
    settings = start_project(tmp_path, empty_store)
    enter(settings, monkeypatch)
    return settings


def start_project(folder, empty_store):
    """Creates a project in a folder, without system metrics, and returns its settings."""
    from keras_dl.tracking.settings import default_file, read_settings

    text = default_file()
    assert text.count("enabled: true") == 1
    (folder / "mlflow.yaml").write_text(text.replace("enabled: true", "enabled: false"), encoding="utf-8")
    shutil.copy(empty_store, folder / "mlflow.db")
    return read_settings(folder)


def enter(settings, monkeypatch):
    """Makes a project's folder the current one."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_") and name.endswith(("_URI", "_ID"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(settings.root)


@contextlib.contextmanager
def inside_project(root, empty_store, **options):
    """Makes a new project's folder the current one in a fixture of a module or session; yields its settings."""
    from keras_dl.tracking.settings import Settings

    shutil.copy(empty_store, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        yield Settings(system_metrics={"enabled": False}, root=root, **options)


@pytest.fixture
def line(project):
    """The pipeline of `line.py` in an empty project."""
    from .line import write_pipeline

    return write_pipeline(project.root)


@pytest.fixture(scope="session")
def three_versions(tmp_path_factory, empty_store):
    """The settings of a project with three versions of `line.py`: a champion, a challenger and a better champion."""
    from keras_dl.training.train import train

    from .line import write_pipeline

    with inside_project(tmp_path_factory.mktemp("trained"), empty_store) as settings:
        pipeline = write_pipeline(settings.root)
        return settings, [train(pipeline, {"rate": rate}, settings) for rate in (1.2, 1.4, 0.25)]


@pytest.fixture
def trained(three_versions, monkeypatch):
    """The settings and pipeline of that project, whose folder is the current one."""
    from keras_dl.pipeline import load_pipeline
    from keras_dl.tracking.runs import connect

    settings, _ = three_versions
    monkeypatch.chdir(settings.root)
    connect(settings, "line")
    return settings, load_pipeline(settings.root / "pipelines" / "line.py")
