"""A worker before its first trial, and files exchanged through the store."""

import json

import mlflow
import pytest

from keras_dl import Pipeline
from keras_dl.errors import UserError
from keras_dl.tuning.distributed.exchange import fetch, put
from keras_dl.tuning.distributed.protocol import difference, identity
from keras_dl.tuning.distributed.worker import adopt, check_store, is_shared, state_folder
from keras_dl.tuning.plan import Plan


class Waves(Pipeline):
    pass


@pytest.fixture
def waves(tmp_path):
    pipeline = Waves()
    pipeline.name, pipeline.file = "waves", tmp_path / "waves.py"
    pipeline.file.write_text("# data and build\n")
    return pipeline


@pytest.fixture
def run_id(project):
    mlflow.set_tracking_uri(project.tracking_uri)
    artifacts = (project.root / "mlartifacts").as_uri()
    client = mlflow.MlflowClient()
    return client.create_run(client.create_experiment("waves", artifact_location=artifacts)).info.run_id


def test_the_identity_does_not_depend_on_the_folder_of_the_file(waves, tmp_path):
    before = identity(waves)
    assert difference(before, json.loads(json.dumps(before))) is None
    assert set(before["versions"]) == {"keras_dl", "keras", "tensorflow"}
    (tmp_path / "elsewhere").mkdir()
    waves.file = waves.file.rename(tmp_path / "elsewhere" / "waves.py")
    assert difference(before, identity(waves)) is None
    waves.file.write_text("# data and build!\n")
    assert "waves.py of the pipeline waves differs" in difference(before, identity(waves))


def test_a_worker_adopts_the_options_of_the_chief(waves):
    chief = Waves()
    chief.name, chief.file = "no", waves.file
    chief.set_training_options(epochs=7, seed=3, objective="val_accuracy", source="tfds:mnist")
    arguments = Plan().arguments(chief, 5, [])
    adopt(waves, arguments)
    assert (waves.epochs, waves.seed, waves.objective, waves.source) == (7, 3, "val_accuracy", "tfds:mnist")
    assert (waves.name, waves.trials) == ("waves", 5)
    adopt(waves, arguments, "/data/mnist")
    assert waves.source == "/data/mnist"


def test_the_state_is_stored_with_that_of_the_chief_if_the_folder_is_shared(waves, project):
    chiefs = project.root / "searches" / "waves"
    own = project.root / "searches" / "waves@10.0.0.2_9000" / "abc"
    assert state_folder(waves, "10.0.0.2:9000", project, "abc") == own
    chiefs.mkdir(parents=True)
    for text in ("{", "[]", '{"search": "another"}'):
        (chiefs / "search.json").write_text(text)
        assert not is_shared(chiefs, "abc")
        assert state_folder(waves, "10.0.0.2:9000", project, "abc") == own
    (chiefs / "search.json").write_text('{"search": "abc"}')
    assert state_folder(waves, "10.0.0.2:9000", project, "abc") == chiefs


def test_a_chief_cannot_choose_a_folder_outside(waves, project):
    with pytest.raises(UserError, match="expected a search's id"):
        state_folder(waves, "10.0.0.2:9000", project, "../../etc")


def test_another_store_than_the_chiefs_raises_an_error(project, run_id):
    check_store(project, run_id)
    with pytest.raises(UserError, match="the run of the search is not in sqlite:///.*set tracking: uri:"):
        check_store(project, "0" * 32)


def test_files_are_exchanged_through_the_artifact_store(run_id, tmp_path):
    assert fetch(run_id, "best.npz", tmp_path / "there") is None
    (tmp_path / "best.npz").write_bytes(b"first")
    put(run_id, tmp_path / "best.npz")
    (tmp_path / "best.npz").write_bytes(b"second")
    put(run_id, tmp_path / "best.npz")
    assert fetch(run_id, "best.npz", tmp_path / "there") == tmp_path / "there" / "best.npz"
    assert (tmp_path / "there" / "best.npz").read_bytes() == b"second"
    assert fetch(run_id, "state.npz", tmp_path / "there") is None
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["best.npz"]


@pytest.mark.parametrize("name", ["../best.npz", "a/b", "/etc/passwd", "", ".", ".."])
def test_only_plain_file_names_are_fetched(run_id, name, tmp_path):
    with pytest.raises(ValueError, match="expected a plain file name"):
        fetch(run_id, name, tmp_path)
