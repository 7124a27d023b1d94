"""Fixtures for releases."""

import json

import pytest

from keras_dl.release import publish
from keras_dl.serving.versions import MANIFEST


@pytest.fixture
def empty_exports(monkeypatch):
    """Exports contain only their origin: a real one is measured in another process, which takes seconds."""

    def export(pipeline, model, folder, version, request, origin):
        target = folder / pipeline.name / str(version)
        (target / MANIFEST).parent.mkdir(parents=True)
        (target / MANIFEST).write_text(json.dumps({"origin": origin}))
        return target

    monkeypatch.setattr(publish, "export", export)
