"""The commands, in the order in which a user runs them."""

from keras_dl.cli import main

from ..tuning.halves import client_of, fits, runs


def test_from_a_file_to_a_prediction(halves, run):
    options = ["--trials", "2", "--epochs", "1", "--seed", "3"]
    output = run("tune", "pipelines/halves.py", *options, "units=4", "cell=mean")
    assert "1/2" in output and "2/2" in output and "model  halves version 1, champion" in output
    assert [(fit["units"], fit["cell"]) for fit in fits(halves)] == [(4, "mean")] * 2
    # The same training twice: the second cannot beat the first, so its version does not become the champion.
    for version in ("2", "3"):
        output = run("train", "pipelines/halves.py", "--epochs", "3", "rate=0.05", "bias=False")
        assert f"halves version {version}, " in output
    assert "version 3, challenger" in output and not (halves.saved_models / "halves" / "3").exists()
    client = client_of(halves)
    training = client.get_run(client.get_model_version("halves", "3").run_id)
    params = training.data.params
    assert (params["rate"], params["bias"], params["epochs"]) == ("0.05", "False", "3")
    output = run("evaluate", "pipelines/halves.py", "--model", "1", "--split", "validation")
    assert output.startswith("halves version 1 on validation: accuracy ")
    assert "exported halves version 3 to" in run("export", "pipelines/halves.py", "--model", "3")
    assert "halves, version 3:" in run("predict", "halves", "--example", "31")
    assert "larger: [" in run("predict", "halves", "--input", '{"signal": [[[1.0], [2.0], [3.0]]]}')
    rows = [line.split() for line in run("list").splitlines()]
    assert [row[1] for row in rows if row and row[0] == "halves"] == ["3", "2", "1"]

    output = run("reproduce", training.info.run_id)
    assert "identical" in output
    output = run("compare", "halves", "1", "3")
    assert "version 3 " in output and "rate" in output
    assert "halves version 3 is the champion" in run("promote", "halves", "3")
    assert int(client.get_model_version_by_alias("halves", "champion").version) == 3
    assert "is the champion again" in run("rollback", "halves")
    assert int(client.get_model_version_by_alias("halves", "champion").version) == 2


def test_the_options_reach_the_search(halves, run):
    output = run(
        "tune", "pipelines/halves.py", "--tuner", "grid", "--trials", "2", "--executions-per-trial", "2",
        "--objective", "val_accuracy,val_loss:0.1", "--max-time", "1h", "--early-stop", "median", "--keep", "1",
        "--jit", "off", "rate=0.05", "cell=max", "bias=True",
    )  # fmt: skip
    assert "version 1, champion" in output and "±" in output
    (parent,) = runs(halves)
    expected = {
        "tuner": "grid", "trials": "2", "executions": "2", "objective": "val_accuracy,val_loss:0.1",
        "max_time": "3600.0", "early_stop": "median", "jit": "off",
        "pins": "{'rate': 0.05, 'cell': 'max', 'bias': True}",
    }  # fmt: skip
    assert expected.items() <= parent.data.params.items()
    assert len(fits(halves)) == 4


def test_a_second_project_has_its_own_store(halves, capsys, monkeypatch):
    assert main(["init", "second"]) == 0
    monkeypatch.chdir(halves.root / "second")
    assert main(["list"]) == 0
    assert "no registered models yet" in capsys.readouterr().out
    assert not (halves.root / "second" / "mlflow.db").exists()
