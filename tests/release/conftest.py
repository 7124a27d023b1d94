"""Fixtures for releases."""

import pytest

from keras_dl.release import publish


@pytest.fixture
def empty_exports(monkeypatch):
    """Exports are empty folders: a real one is measured in another process, which takes seconds."""

    def export(pipeline, model, folder, version, request, origin):
        target = folder / pipeline.name / str(version)
        target.mkdir(parents=True)
        return target

    monkeypatch.setattr(publish, "export", export)
