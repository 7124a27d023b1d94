"""A project after a search of three trials, and searches without publishing."""

from pathlib import Path

import keras_tuner as kt
import mlflow
import pytest
from matplotlib.figure import Figure

from keras_dl.tracking.journal import Delivery
from keras_dl.tracking.runs import connect, open_run
from keras_dl.training.reuse import CompiledModels
from keras_dl.tuning import tuner as tuners
from keras_dl.tuning.oracles import make_oracle
from keras_dl.tuning.search import search
from keras_dl.tuning.tuner import TrialTuner

from ..conftest import inside_project
from .halves import write_pipeline

MODELS = CompiledModels(most=16)


@pytest.fixture(autouse=True)
def shared_models(monkeypatch):
    """Shares compiled models between all searches, since compiling takes most of the time of a tiny search."""
    monkeypatch.setattr(tuners, "CompiledModels", lambda: MODELS)


@pytest.fixture
def without_drawing(monkeypatch):
    """Saves empty files instead of figures."""

    def savefig(self, file, **options):
        file.write(b"") if hasattr(file, "write") else Path(file).write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(scope="session")
def searched(tmp_path_factory, empty_store):
    """The settings of a project after a random search of three trials, and the version that it returned."""
    root, tags = tmp_path_factory.mktemp("searched"), {"tags": {"team": "speech"}}
    with inside_project(root, empty_store, tracking=tags) as settings, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuners, "CompiledModels", lambda: MODELS)
        return settings, search(write_pipeline(root), settings)


@pytest.fixture
def connected(searched, monkeypatch):
    """The settings of that project, with MLflow pointed at its store."""
    settings, _ = searched
    monkeypatch.chdir(settings.root)
    mlflow.set_tracking_uri(settings.tracking_uri)
    return settings


@pytest.fixture
def tune(project):
    """tune(pipeline, name, ...): runs the trials of a new or resumed search; returns its tuner and run."""

    def run(pipeline, name="random", trials=3, pins=None, executions=1, run_id=None, **options):
        connect(project, pipeline.name)
        hp = kt.HyperParameters()
        for pin, value in (pins or {}).items():
            hp.Fixed(pin, value)
        oracle = make_oracle(name, pipeline.goal, trials, pipeline.epochs, pipeline.seed, hp)
        for option, value in options.items():
            setattr(oracle, option, value)
        with open_run(project, "search", {}, run_id) as parent:
            delivery = Delivery(project, parent.info.experiment_id).start()
            try:
                folder = project.root / "searches" / pipeline.name
                folder.mkdir(parents=True, exist_ok=True)
                tuner = TrialTuner(pipeline, oracle, folder, delivery, parent.info.run_id, executions)
                tuner.search()
            finally:
                assert delivery.stop(60)
        return tuner, parent

    return run
