"""Events of a journal arrive in a real store, in order and once, even if processes are killed."""

import json
import math
import multiprocessing
import time

import mlflow
import pytest

from keras_dl.tracking import journal as journal_module
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.names import mlflow_names
from keras_dl.tracking.settings import Settings


@pytest.fixture
def deliver(project, experiment):
    """deliver(settings): a started `Delivery`, stopped after the test."""
    started = []

    def start(settings=project):
        started.append(Delivery(settings, experiment).start())
        return started[-1]

    yield start
    for delivery in started:
        delivery.stop(5)


def trial(delivery, project, parent, number=0, **tags):
    folder = project.root / f"searches/digits/trial_{number:02}"
    return Journal(delivery, folder, f"trial-{number + 1}", {"kind": "trial", "trial": f"{number:02}", **tags}, parent)


def points(run_id, name):
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return sorted((point.step, point.value) for point in history)


def children(parent):
    run = mlflow.get_run(parent)
    return mlflow.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{parent}'", output_format="list")


def test_all_events_are_delivered(project, parent, deliver):
    settings = Settings(tracking={"tags": {"team": "speech"}}, root=project.root)
    delivery = deliver(settings)
    journal = trial(delivery, project, parent)
    journal.params({"batch_size": 32, "cell": "lstm"})
    before = time.time() * 1000
    for epoch in range(3):
        journal.metrics({"loss": 1 / (epoch + 1), "val_loss": math.nan}, epoch)
    journal.tags({"best_epoch": 3})
    journal.text("a\nb\n", "notes.txt")
    assert mlflow.get_run(journal.run_id(60)).info.status == "RUNNING"
    journal.end("FINISHED")
    assert delivery.flush(60)
    run = mlflow.get_run(journal.run_id(0))
    assert (run.info.run_name, run.info.status) == ("trial-1", "FINISHED")
    assert run.data.params == {"batch_size": "32", "cell": "lstm"}
    tags = {"team": "speech", "kind": "trial", "trial": "00", "best_epoch": "3", "mlflow.parentRunId": parent}
    assert tags.items() <= run.data.tags.items() and run.data.tags["owner"]
    assert points(journal.run_id(0), "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert math.isnan(run.data.metrics["val_loss"])
    stamp = mlflow.MlflowClient().get_metric_history(journal.run_id(0), "loss")[0].timestamp
    assert before - 1 <= stamp <= run.info.end_time <= time.time() * 1000  # the time of the event, not of the delivery
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes.txt") == "a\nb\n"


def test_events_are_delivered_without_a_flush(project, parent, deliver):
    delivery = deliver()
    trial(delivery, project, parent).end("FINISHED")
    assert delivery.flush(60)  # the thread has nothing to do and waits
    trial(delivery, project, parent, 1).end("FINISHED")
    latest = time.monotonic() + 60
    while len(children(parent)) < 2 and time.monotonic() < latest:
        time.sleep(0.05)
    assert {run.info.run_name for run in children(parent)} == {"trial-1", "trial-2"}


def test_an_error_is_removed_when_the_run_is_resumed(project, parent, deliver):
    delivery = deliver()
    journal = trial(delivery, project, parent)
    journal.error("ValueError: no", "Traceback\nValueError: no")
    journal.end("FAILED")
    assert delivery.flush(60)
    run = mlflow.get_run(journal.run_id(0))
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "ValueError: no")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/error.txt").startswith("Traceback")
    again = trial(delivery, project, parent)
    assert delivery.flush(60)
    run = mlflow.get_run(again.run_id(0))
    assert run.info.run_id == journal.run_id(0)
    assert run.info.status == "RUNNING" and "error" not in run.data.tags


def test_recording_is_fast_and_delivered_in_few_calls(project, parent, deliver, monkeypatch):
    monkeypatch.setattr(journal_module, "GATHER", 60)  # until the flush, however slow the machine
    delivery = deliver()
    calls, log_batch = [], delivery._client.log_batch
    delivery._client.log_batch = lambda *arguments: calls.append(1) or log_batch(*arguments)
    journal = trial(delivery, project, parent)
    journal.run_id(60)
    calls.clear()
    seconds = []
    for epoch in range(200):
        started = time.thread_time()
        journal.metrics({"loss": 1.0, "val_loss": 2.0}, epoch)
        seconds.append(time.thread_time() - started)
    assert sorted(seconds)[100] < 1e-3
    assert delivery.flush(60) and len(calls) <= 4
    assert len(points(journal.run_id(0), "loss")) == 200


def test_events_that_exceed_the_limits_of_one_call_are_split(project, parent, deliver):
    delivery = deliver()
    journal = trial(delivery, project, parent)
    for epoch in range(30):
        journal.metrics({f"m{number}": epoch for number in range(50)}, epoch)
    journal.params({f"p{number}": number for number in range(250)})
    assert delivery.flush(60)
    run = mlflow.get_run(journal.run_id(0))
    assert len(run.data.params) == 250 and len(points(run.info.run_id, "m49")) == 30


def test_executions_are_children_of_their_trial(project, parent, deliver):
    delivery = deliver()
    above = trial(delivery, project, parent)
    runs = [
        Journal(delivery, above._path.parent / f"execution_{number}", f"execution-{number + 1}",
                {"trial": "00", "execution": str(number)}, above)
        for number in (1, 2)
    ]  # fmt: skip
    assert delivery.flush(60)
    ids = {run.run_id(0) for run in runs}
    assert len(ids) == 2 and above.run_id(0) not in ids
    assert {run.info.run_id for run in children(above.run_id(0))} == ids
    assert [run.info.run_id for run in children(parent)] == [above.run_id(0)]


def test_invalid_names_and_values_are_sanitized(project, parent, deliver, capsys):
    delivery = deliver()
    journal = trial(delivery, project, parent)
    journal.metrics({"top(5)": 1.0, "a//b": 2.0, "../c": 3.0, "m" * 300: 4.0}, 0)
    journal.params({"long": "x" * 10_000, "tuner/epochs": 3, "zero": "a\0b", "half": "\ud800"})
    journal.tags({"long": "ä" * 10_000})
    journal.text("x", "../../outside.txt")
    assert delivery.flush(60)
    run = mlflow.get_run(journal.run_id(0))
    assert sorted(run.data.metrics.values()) == [1.0, 2.0, 3.0, 4.0] and run.data.metrics["top_5_"] == 1.0
    assert len(run.data.params["long"]) == 6000 and run.data.params["tuner/epochs"] == "3"
    assert (run.data.params["zero"], run.data.params["half"]) == ("ab", "?")
    assert len(run.data.tags["long"]) == 8000
    assert [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == ["______outside.txt"]
    assert capsys.readouterr().err == ""


def test_names_that_become_equal_are_recorded_separately(project, parent, deliver):
    delivery = deliver()
    journal = trial(delivery, project, parent)
    for epoch in range(2):
        journal.metrics({"hits@3": 1.0 + epoch, "hits#3": 3.0 + epoch, "hits_3": 5.0 + epoch}, epoch)
    journal.params({"units[0]": 7, "units(0)": 8})
    assert delivery.flush(60)
    data = mlflow.get_run(journal.run_id(0)).data
    assert {name: data.metrics[shown] for name, shown in mlflow_names(["hits@3", "hits#3", "hits_3"]).items()} == {
        "hits@3": 2.0, "hits#3": 4.0, "hits_3": 6.0
    }  # fmt: skip
    assert sorted(data.params.values()) == ["7", "8"]


def test_a_rejected_event_does_not_block_later_ones(project, parent, deliver, capsys):
    delivery = deliver()
    journal = trial(delivery, project, parent)
    journal.params({"rate": 0.1})
    assert delivery.flush(60)
    for _ in range(2):
        journal.params({"rate": 0.2, "size": 3})
        journal.metrics({"loss": 1.0}, 0)
        assert delivery.flush(60)
    journal.end("FINISHED")
    assert delivery.flush(60)
    run = mlflow.get_run(journal.run_id(0))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rate": "0.1", "size": "3"} and run.data.metrics == {"loss": 1.0}
    assert capsys.readouterr().err.count("MLflow rejects rate") == 1


def test_a_resumed_journal_drops_an_incomplete_line_and_repeats_no_metric(project, parent, deliver):
    first = deliver()
    journal = trial(first, project, parent)
    for epoch in range(3):
        journal.metrics({"loss": epoch}, epoch)
    assert first.stop(60)
    with open(journal._path, "ab") as file:
        file.write(b'{"time": 1, "metrics": {"lo')
    second = deliver()
    again = trial(second, project, parent)
    for epoch in range(2, 5):  # epoch 2 is already recorded
        again.metrics({"loss": epoch}, epoch)
    assert second.flush(60)
    assert again.run_id(0) == journal.run_id(0)
    assert points(again.run_id(0), "loss") == [(epoch, float(epoch)) for epoch in range(5)]
    assert all(json.loads(line) for line in journal._path.read_text().splitlines())


def test_a_run_whose_id_was_not_saved_is_found_again(project, parent, deliver):
    first = deliver()
    journal = trial(first, project, parent)
    journal.metrics({"loss": 1.0, "nothing": math.nan, "all": math.inf}, 0)
    assert first.stop(60)
    (journal._path.parent / "delivered.json").unlink()  # as if killed after creating the run
    second = deliver()
    second.adopt(project.root / "searches/digits", parent)
    assert second.flush(60)
    assert [run.info.run_id for run in children(parent)] == [journal.run_id(0)]
    for name in ("loss", "nothing", "all"):
        assert len(points(journal.run_id(0), name)) == 1


def test_a_deleted_run_is_delivered_again_when_resumed(project, parent, deliver, capsys):
    delivery = deliver()
    journal = trial(delivery, project, parent)
    journal.metrics({"loss": 1.0}, 0)
    old = journal.run_id(60)
    assert delivery.flush(60)
    mlflow.delete_run(old)
    journal.metrics({"loss": 2.0}, 1)  # not resumed: the run stays deleted
    assert delivery.flush(60)
    assert capsys.readouterr().err.count("MLflow rejects loss") == 1
    again = trial(delivery, project, parent)
    again.metrics({"loss": 3.0}, 2)
    assert delivery.flush(60)
    assert again.run_id(0) != old
    assert points(again.run_id(0), "loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_a_journal_of_an_existing_run(project, parent, deliver):
    delivery = deliver()
    journal = Journal.of_run(delivery, project.root / "scratch", parent)
    journal.metrics({"loss": 1.0}, 0)
    assert journal.run_id(0) == parent and delivery.flush(60)
    assert points(parent, "loss") == [(0, 1.0)] and children(parent) == []
    assert "owner" not in mlflow.get_run(parent).data.tags


OPEN = """
import mlflow
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.runs import connect
connect(settings, "digits")
delivery = Delivery(settings, mlflow.get_run(parent).info.experiment_id)
trial = Journal(delivery, settings.root / "searches/digits/trial_00", "trial-1", {"trial": "00"}, parent)
"""
RECORD = """
if deliver:
    delivery.start()
folder = trial._path.parent
execution = Journal(delivery, folder / "execution_1", "execution-2", {"trial": "00", "execution": "1"}, trial)
for epoch in range(10**9):
    trial.metrics({"loss": epoch}, epoch)
    execution.metrics({"loss": epoch}, epoch)
    if epoch == 300:
        pipe.send("recorded")
"""


@pytest.mark.parametrize("delivering", [True, False])
def test_the_events_of_a_killed_process_are_delivered_by_the_next(project, parent, deliver, child, delivering):
    ours, theirs = multiprocessing.Pipe()
    process = child(OPEN + RECORD, settings=project, parent=parent, deliver=delivering, pipe=theirs)
    assert ours.poll(120) and ours.recv() == "recorded"
    process.kill()
    process.join()
    delivery = deliver()
    delivery.adopt(project.root / "searches/digits", parent)
    assert delivery.flush(60)
    (above,) = children(parent)
    (below,) = children(above.info.run_id)
    assert (above.info.run_name, below.info.run_name) == ("trial-1", "execution-2")
    for run in (above, below):
        found = points(run.info.run_id, "loss")
        assert len(found) >= 300 and found == [(epoch, float(epoch)) for epoch in range(len(found))]


FILL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    for epoch in range(10**9):
        trial.metrics({"loss": epoch}, epoch)
except OSError as error:
    pipe.send(type(error))
"""


def test_a_full_disk_leaves_complete_lines(project, parent, child):
    ours, theirs = multiprocessing.Pipe()
    process = child(OPEN + FILL, settings=project, parent=parent, pipe=theirs)
    assert ours.poll(120) and ours.recv() is OSError
    process.join()
    lines = (project.root / "searches/digits/trial_00/events.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 10
    assert all(line.endswith(b"\n") and json.loads(line) for line in lines)
