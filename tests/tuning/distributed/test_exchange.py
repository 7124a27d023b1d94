"""Exchange of the state of trials through the artifact store, between machines that share no folder."""

import shutil

import pytest

from keras_dl.training.fit import BEST, DONE
from keras_dl.tuning.distributed.exchange import Exchange
from keras_dl.tuning.tuner import TrialTuner

from ..halves import GRID, runs, write_pipeline


@pytest.fixture
def exchanging(monkeypatch):
    """Makes every tuner put the files of its trials into the store."""
    begin = TrialTuner.__init__

    def with_exchange(self, pipeline, oracle, folder, delivery, parent_id, *arguments, **options):
        options["exchange"] = Exchange(delivery.experiment_id, parent_id)
        begin(self, pipeline, oracle, folder, delivery, parent_id, *arguments, **options)

    monkeypatch.setattr(TrialTuner, "__init__", with_exchange)


def contents(folder, names):
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in sorted(folder.rglob(name))}


@pytest.mark.parametrize("executions", [1, 2])
def test_the_files_of_a_trial_are_exchanged(project, tune, exchanging, tmp_path, executions):
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


def test_only_missing_files_of_a_known_trial_are_fetched(project, tune, exchanging, tmp_path):
    _, parent = tune(write_pipeline(project.root), "grid", 1, GRID)
    there = tmp_path / "trial_0"
    there.mkdir()
    (there / BEST).write_bytes(b"mine")
    exchange = Exchange(parent.info.experiment_id, parent.info.run_id)
    exchange.fetch("0", there)
    assert (there / BEST).read_bytes() == b"mine" and (there / DONE).is_file()
    exchange.fetch("7", tmp_path / "trial_7")
    assert not (tmp_path / "trial_7").exists()


def test_a_promoted_trial_continues_from_a_parent_on_another_machine(project, tune, exchanging, monkeypatch):
    """The folder of each trial is removed after its end, as if it were on another machine."""
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
    for trial in promoted:  # the parent's state was fetched from the store
        folder = tuner.trial_folder(trial.hyperparameters.values["tuner/trial_id"])
        assert (folder / "state.npz").is_file()
