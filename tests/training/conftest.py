"""The line pipeline, untrained and trained."""

import shutil

import pytest

from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings
from keras_dl.training.train import train

from .line import write_pipeline


@pytest.fixture
def line(project):
    """The pipeline in an empty project."""
    return write_pipeline(project.root)


@pytest.fixture(scope="session")
def three_versions(tmp_path_factory, empty_store):
    """The settings of a project with a champion, a challenger, and a better champion."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_store, root / "mlflow.db")
    settings = Settings(system_metrics={"enabled": False}, root=root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        pipeline = write_pipeline(root)
        found = [train(pipeline, {"rate": rate}, settings) for rate in (1.2, 1.4, 0.25)]
    return settings, found


@pytest.fixture
def trained(three_versions, monkeypatch):
    """The settings of that project, which is the current one, and its pipeline."""
    settings, _ = three_versions
    monkeypatch.chdir(settings.root)
    connect(settings, "line")
    return settings, load_pipeline(settings.root / "pipelines" / "line.py")
