"""State of trials through the artifact store, as between machines that share no folder."""

import shutil

import pytest

from keras_dl.training.fit import BEST, DONE
from keras_dl.tuning.distributed.exchange import Exchange
from keras_dl.tuning.tuner import TrialTuner

from ..halves import GRID, runs, write_pipeline


@pytest.fixture
def exchanging(monkeypatch):
    """Has every tuner put what its trials leave behind into the store."""
    begin = TrialTuner.__init__

    def with_exchange(self, pipeline, oracle, folder, delivery, parent_id, *arguments, **options):
        options["exchange"] = Exchange(delivery.experiment_id, parent_id)
        begin(self, pipeline, oracle, folder, delivery, parent_id, *arguments, **options)

    monkeypatch.setattr(TrialTuner, "__init__", with_exchange)


def contents(folder, names):
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in sorted(folder.rglob(name))}


@pytest.mark.parametrize("executions", [1, 2])
def test_what_a_trial_leaves_behind_is_brought_back(project, tune, exchanging, tmp_path, executions):
    tuner, parent = tune(write_pipeline(project.root), "grid", 2, GRID, executions)
    elsewhere = tmp_path / "elsewhere"
    exchange = Exchange(parent.info.experiment_id, parent.info.run_id)
    for trial_id in ("0", "1"):
        there = elsewhere / f"trial_{trial_id}"
        exchange.fetch(trial_id, there)
        kept = contents(tuner.trial_folder(trial_id), (BEST, DONE))
        assert len(kept) == 2 * executions
        assert contents(there, (BEST, DONE)) == kept
        assert contents(there, ("*.tmp*", ".fetch*")) == {}


def test_what_is_there_already_stays(project, tune, exchanging, tmp_path):
    tuner, parent = tune(write_pipeline(project.root), "grid", 1, GRID)
    there = tmp_path / "trial_0"
    there.mkdir()
    (there / BEST).write_bytes(b"mine")
    Exchange(parent.info.experiment_id, parent.info.run_id).fetch("0", there)
    assert (there / BEST).read_bytes() == b"mine" and (there / DONE).is_file()


def test_of_a_trial_that_is_not_there_nothing_comes(project, tune, exchanging, tmp_path):
    _, parent = tune(write_pipeline(project.root), "grid", 1, GRID)
    Exchange(parent.info.experiment_id, parent.info.run_id).fetch("7", tmp_path / "trial_7")
    assert not (tmp_path / "trial_7").exists()


def test_a_promoted_trial_goes_on_from_a_parent_that_another_machine_trained(project, tune, exchanging, monkeypatch):
    """After each trial its folder is gone, as on a machine that never had it."""
    pipeline = write_pipeline(project.root)
    pipeline.epochs = 3
    ended = TrialTuner.on_trial_end

    def forgotten(self, trial):
        ended(self, trial)
        self.delivery.flush(60)
        shutil.rmtree(self.trial_folder(trial.trial_id))

    monkeypatch.setattr(TrialTuner, "on_trial_end", forgotten)
    tuner, parent = tune(pipeline, "hyperband", 5, {"batch_size": 32})
    promoted = [trial for trial in tuner.oracle.trials.values() if "tuner/trial_id" in trial.hyperparameters.values]
    assert promoted and {trial.status for trial in promoted} == {"COMPLETED"}
    assert {run.info.status for run in runs(project, parent)} == {"FINISHED"}
    for trial in promoted:  # the parent's state came with the store
        folder = tuner.trial_folder(trial.hyperparameters.values["tuner/trial_id"])
        assert (folder / "state.npz").is_file()
