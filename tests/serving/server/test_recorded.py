"""What a manifest says is believed as far as it can be true of the graph."""

import json
import logging
import shutil

import numpy as np
import pytest

from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.recorded import checked
from keras_dl.serving.server.sharing import sharing

RIGHT = {"rows_independent": True, "padded_axes": {"features": [1]}, "cropped_axes": {}, "why": ""}
ROWS = {"features": np.ones((1, 3, 2), np.float32), "length": np.array([2])}


def with_batching(batching):
    return {"format": 1, "signatures": {"serving_default": {"batching": batching}}}


@pytest.fixture(scope="module")
def signatures(store):
    return store.get("sequences").signatures


def test_what_is_right_is_kept_as_it_is(signatures):
    manifest = with_batching(RIGHT) | {"request": {"features": [], "length": []}, "origin": {}, "git_commit": None}
    manifest |= {"exported": "2026-01-01", "of a later form": [1]}
    assert checked(manifest, signatures) == (manifest, [])
    assert checked({}, signatures) == ({}, [])
    assert checked(with_batching(RIGHT | {"cropped_axes": {"total": 1}}), signatures)[1] == []


@pytest.mark.parametrize(
    "manifest",
    [
        {"signatures": []},
        {"signatures": None},
        {"signatures": {"serving_default": []}},
        {"signatures": {"other": {"batching": RIGHT}}},
        {"request": [1]},
        {"request": {"features": []}},
        {"request": {"features": [], "lengths": []}},
        {"origin": "a run"},
        {"exported": 5},
        {"git_commit": {}},
        with_batching(None),
        with_batching([]),
        with_batching(RIGHT | {"rows_independent": "no"}),
        with_batching(RIGHT | {"rows_independent": 1}),
        with_batching(RIGHT | {"padded_axes": [1]}),
        with_batching(RIGHT | {"padded_axes": None}),
        with_batching(RIGHT | {"padded_axes": {"features": 1}}),
        with_batching(RIGHT | {"padded_axes": {"features": ["1"]}}),
        with_batching(RIGHT | {"padded_axes": {"features": [True]}}),
        with_batching(RIGHT | {"padded_axes": {"features": [1.0]}}),
        with_batching(RIGHT | {"padded_axes": {"features": [0]}}),
        with_batching(RIGHT | {"padded_axes": {"features": [-1]}}),
        with_batching(RIGHT | {"padded_axes": {"features": [2]}}),
        with_batching(RIGHT | {"padded_axes": {"features": [3]}}),
        with_batching(RIGHT | {"padded_axes": {"length": [1]}}),
        with_batching(RIGHT | {"padded_axes": {"other": [1]}}),
        with_batching(RIGHT | {"cropped_axes": 1}),
        with_batching(RIGHT | {"cropped_axes": {"total": [1]}}),
        with_batching(RIGHT | {"cropped_axes": {"total": "1"}}),
        with_batching(RIGHT | {"cropped_axes": {"total": 0}}),
        with_batching(RIGHT | {"cropped_axes": {"total": 2}}),
        with_batching(RIGHT | {"cropped_axes": {"other": 1}}),
    ],
    ids=json.dumps,
)
def test_what_is_wrong_is_left_out(signatures, manifest):
    kept, problems = checked(manifest | {"name": "kept"}, signatures)
    assert len(problems) == 1
    assert kept.pop("name") == "kept" and kept.pop("format", 1) == 1
    assert kept in ({}, {"signatures": {}})


def test_a_model_with_a_wrong_manifest_answers_and_says_so_once(model_folders, tmp_path, caplog):
    folder = shutil.copytree(model_folders["sequences"] / "7", tmp_path / "7")
    (folder / "assets.extra").mkdir(exist_ok=True)
    file = folder / "assets.extra" / "manifest.json"
    for manifest in ({"signatures": []}, with_batching(None) | {"request": 5}):
        caplog.clear()
        file.write_text(json.dumps(manifest))
        with caplog.at_level(logging.WARNING):
            model = LoadedModel("sequences", 7, folder)
            assert sharing(model, "serving_default", False) is None
            assert model.predict("serving_default", ROWS)["total"].tolist() == [[2, 2]]
        ours = [record for record in caplog.records if record.name.startswith("keras_dl")]
        assert len(ours) == 1 and "is ignored in part" in ours[0].message
    file.write_text(json.dumps(with_batching(RIGHT)))
    assert sharing(LoadedModel("sequences", 7, folder), "serving_default", False).padded_axes == {"features": [1]}
