"""Invalid inputs: exit status 2, a message of one line, and no changes."""

import socket

import mlflow
import pytest


def no_search(settings):
    """Returns whether there is no state of a search; an empty folder and a lock are allowed."""
    return not [path for path in (settings.root / "searches").glob("*") if path.is_dir()]


def nothing_was_done(settings):
    """Checks that there is no search, no model, and no run of the pipeline."""
    client = mlflow.MlflowClient(settings.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert client.search_runs(experiments) == [] and client.search_registered_models() == []
    assert no_search(settings)
    assert not settings.saved_models.is_dir() or not list(settings.saved_models.iterdir())
    return True


@pytest.mark.parametrize("verb", ["tune", "train", "evaluate", "export"])
def test_a_missing_pipeline_file(halves, error, verb):
    assert error(verb, "pipelines/wave.py") == "no pipeline file pipelines/wave.py. In that folder: pipelines/halves.py"
    assert error(verb, "nowhere/wave.py") == "no pipeline file nowhere/wave.py"
    assert error(verb, "pipelines").startswith("no pipeline file pipelines")
    assert nothing_was_done(halves)


def test_an_invalid_pipeline_file(halves, error):
    file = halves.root / "pipelines" / "other.py"
    file.write_text("x = 1\n\n\ny = x / 0\n")
    assert error("tune", str(file)) == f"{file}:4: ZeroDivisionError: division by zero"
    file.write_text("objective = 'val_loss'\n")
    assert error("tune", str(file)).startswith(f"{file} has no data(hp) and no build(hp): expected a subclass of")
    file.rename(halves.root / "pipelines" / "my-model.py")
    assert "expected a pipeline file NAME.py" in error("train", "pipelines/my-model.py")


@pytest.mark.parametrize("verb", ["tune", "train"])
@pytest.mark.parametrize(
    "value, message",
    [
        ("unit=3", "unknown hyperparameter: unit. This pipeline has: batch_size one of 32, 64 (default 64); "
                   "units from 2 to 4 (whole) (default 3); rate from 0.001 to 0.1 (default 0.01); "
                   "cell one of max, mean (default max); bias True or False (default True)"),
        ("units=5", "units=5 is invalid: expected units from 2 to 4 (whole) (default 3)"),
        ("units=many", "units=many is invalid: expected units from 2 to 4 (whole)"),
        ("units", "expected name=value, such as learning_rate=0.001. Received: 'units'"),
    ],
)  # fmt: skip
def test_an_invalid_name_or_value(halves, error, verb, value, message):
    assert error(verb, "pipelines/halves.py", "rate=0.01", value).startswith(message)
    assert nothing_was_done(halves)


def test_invalid_settings(halves, error):
    (halves.root / "mlflow.yaml").write_text("tracking: {url: sqlite:///runs.db}\nui: {port: 0}\n")
    for arguments in (["tune", "pipelines/halves.py"], ["list"], ["ui"], ["predict", "halves", "--example", "0"]):
        message = error(*arguments)
        assert message.startswith(f"{halves.root}/mlflow.yaml: unknown key 'tracking.url'; known keys: uri, artifacts")
        assert "ui.port: " in message


@pytest.mark.parametrize("verb", [["tune", "pipelines/halves.py"], ["train", "pipelines/halves.py"], ["list"],
                                  ["evaluate", "pipelines/halves.py"], ["export", "pipelines/halves.py"]])  # fmt: skip
def test_an_unreachable_tracking_server(halves, error, free_port, verb):
    uri = f"http://127.0.0.1:{free_port()}"
    (halves.root / "mlflow.yaml").write_text(f"tracking: {{uri: '{uri}'}}")
    assert error(*verb).startswith(f"no MLflow server answers at {uri} (ConnectionRefusedError): start it, or change")
    assert no_search(halves)


def test_a_port_in_use(halves, error):
    (halves.saved_models / "halves" / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert error("serve", "--embedded", "--rest-port", port).startswith(f"cannot listen on 127.0.0.1:{port} (Addr")
        assert error("ui", "--port", port).startswith(f"cannot listen on 127.0.0.1:{port} (Addr")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--max-time", "soon"], "expected a time such as 90s, 15m or 1.5h. Received: 'soon'"),
        (["--objective", "val_loss,val_loss"], "expected metrics separated by commas, each once"),
        (["--chief", "nowhere"], "expected HOST:PORT"),
    ],
)
def test_invalid_options_of_a_search(halves, error, arguments, message):
    assert message in error("tune", "pipelines/halves.py", *arguments)
    assert nothing_was_done(halves)


def test_unknown_runs_and_versions(halves, error):
    assert "0123" in error("reproduce", "0123", "pipelines/halves.py")
    assert error("promote", "halves", "1").startswith("no model 'halves' in the registry. Available: none yet")
    assert error("rollback", "halves").startswith("no model 'halves' in the registry. Available: none yet")
    assert error("compare", "halves", "1", "2").startswith("no model 'halves' in the registry. Available: none yet")
    assert nothing_was_done(halves)


def test_a_worker_without_a_chief(halves, error):
    assert error("worker", "nowhere", "pipelines/halves.py").startswith("expected HOST:PORT")
    assert error("worker", "127.0.0.1:9000", "pipelines/wave.py").startswith("no pipeline file pipelines/wave.py")


def test_unknown_models(halves, error):
    assert error("serve", "digits") == f"no model 'digits' in {halves.saved_models}. Available: none"
    assert error("serve").startswith("no model to serve in ")
    (halves.saved_models / "halves").mkdir(parents=True)
    assert error("serve", "halves", "digits").endswith(". Available: halves")
    for what in (["--example", "0"], ["--image", "a.png"], ["--input", "{}"]):
        assert error("predict", "digits", *what).startswith(f"no model 'digits' in {halves.saved_models}: train it wi")
    for verb in ("evaluate", "export"):
        assert error(verb, "pipelines/halves.py").startswith("no model 'halves' in the registry. Available: none yet")
    assert error("evaluate", "pipelines/halves.py", "--model", "my.keras") == "model file my.keras does not exist"


def test_an_unwritable_project_folder(halves, error):
    assert error("init", "pipelines/halves.py").startswith("cannot write pipelines/halves.py/mlflow.yaml: ")
