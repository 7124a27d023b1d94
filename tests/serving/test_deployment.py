"""The files that `--write-config` writes are valid according to their schemas."""

import subprocess

import compose_spec
import kubernetes_validate
import mlflow
import pytest
import yaml
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.release.served_models import served_models
from keras_dl.serving.configuration import Served
from keras_dl.serving.deployment import compose, kserve, kubernetes, write_deployment
from keras_dl.serving.messages import BatchingParameters, ModelServerConfig, MonitoringConfig
from keras_dl.serving.server.config import read_model_config
from keras_dl.tracking.runs import connect

from ..answers import answering

MODELS = [Served("digits_ctc", (3, 2), {"champion": 3}), Served("it's $HOME/%d", (1,), {})]


@pytest.fixture
def exported(project):
    connect(project)
    client = mlflow.MlflowClient()
    client.create_registered_model("digits")
    client.create_model_version("digits", "nowhere")
    client.set_registered_model_alias("digits", "champion", "1")
    (project.saved_models / "digits" / "1").mkdir(parents=True)
    return project


def test_every_file_is_written_and_valid(exported):
    files = {
        path.name: path
        for path in write_deployment(served_models(exported), exported, exported.root / "deploy" / "here")
    }
    assert sorted(files) == [
        *("batching_parameters.txt", "compose.yaml", "kserve.yaml", "kubernetes.yaml"),
        *("models.config", "monitoring.config"),
    ]
    for name, message in (
        ("models.config", ModelServerConfig()),
        ("batching_parameters.txt", BatchingParameters()),
        ("monitoring.config", MonitoringConfig()),
    ):
        assert text_format.Parse(files[name].read_text(), message).ByteSize() > 0
    assert dict(text_format.Parse(files["models.config"].read_text(), ModelServerConfig())
                .model_config_list.config[0].version_labels) == {"champion": 1}  # fmt: skip
    content = yaml.safe_load(files["compose.yaml"].read_text())
    assert content["services"]["serving"]["volumes"] == ["../../saved_models:/models:ro", "./:/configuration:ro"]
    compose_spec.PyCompose.from_yaml(files["compose.yaml"].read_text())
    for document in yaml.safe_load_all(files["kubernetes.yaml"].read_text()):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_compose_listens_only_on_this_machine(project):
    services = compose(MODELS, project, project.root)["services"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert ports == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501", "127.0.0.1:5000:5000"]
    assert services["serving"]["volumes"][0] == "./saved_models:/models:ro"
    # The store refers to its artifacts by the path of the project.
    assert services["mlflow"]["volumes"] == [f"{project.root}:{project.root}"]
    assert services["mlflow"]["command"][-1] == f"sqlite:///{project.root}/mlflow.db"


def test_a_tracking_server_needs_no_second_server(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    assert list(compose(MODELS, project, project.root)["services"]) == ["serving"]


def test_selected_models_on_other_ports(exported):
    (exported.saved_models / "speech" / "1").mkdir(parents=True)
    files = write_deployment(
        served_models(exported), exported, exported.root / "deploy", ["digits"], rest_port=9001, grpc_port=9000
    )
    assert [config.name for config in read_model_config(files[0].read_text())] == ["digits"]
    serving = yaml.safe_load((exported.root / "deploy" / "compose.yaml").read_text())["services"]["serving"]
    assert serving["ports"] == ["127.0.0.1:9000:8500", "127.0.0.1:9001:8501"]
    assert serving["command"][0] == "--model_config_file=/configuration/models.config"
    with pytest.raises(UserError, match="no export of other in .*. Available: digits, speech"):
        write_deployment(served_models(exported), exported, exported.root / "deploy", ["digits", "other"])


def test_the_health_check_requests_every_model(project, free_port, tmp_path):
    """Runs in bash against a server that answers like TensorFlow Serving; names are not interpreted by the shell."""
    asked, state = [], ["AVAILABLE"]

    def answer(method, path):
        asked.append(path)
        return 200, f'{{"model_version_status": [{{"state": "{state[0]}"}}]}}'.encode()

    with answering(answer) as url:
        _, *command = compose(MODELS, project, project.root)["services"]["serving"]["healthcheck"]["test"]
        assert "$" not in command[-1]  # Compose would substitute a variable
        command[-1] = command[-1].replace("/8501", f"/{url.rpartition(':')[2]}")
        assert subprocess.run(command, cwd=tmp_path, timeout=30).returncode == 0
        assert asked == ["/v1/models/digits_ctc", "/v1/models/it%27s%20%24HOME%2F%25d"]
        for state[0] in ("LOADING", "UNAVAILABLE"):
            assert subprocess.run(command, cwd=tmp_path, timeout=30).returncode != 0


def test_a_cluster_gets_the_same_configuration(project):
    configuration, deployment, service = kubernetes(MODELS)
    names = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert names["configuration"]["configMap"]["name"] == configuration["metadata"]["name"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    flags = dict(flag.removeprefix("--").split("=") for flag in container["args"])
    assert flags["model_config_file"] == "/models/models.config"  # its labels move
    for flag in ("batching_parameters_file", "monitoring_config_file"):
        assert flags[flag].removeprefix("/configuration/") in configuration["data"]
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_kserve_names_are_valid_in_a_cluster():
    first, second = kserve(MODELS)
    assert (first["metadata"]["name"], second["metadata"]["name"]) == ("digits-ctc", "it-s-home-d")
    assert first["spec"]["predictor"]["model"]["storageUri"] == "pvc://saved-models/digits_ctc"
    names = [service["metadata"]["name"] for service in kserve([Served("9x", (1,), {}), Served("_", (1,), {})])]
    assert names == ["model-9x", "model"]
    with pytest.raises(UserError, match="two models have the name a-b in a cluster; rename a__b"):
        kserve([Served("a_b", (1,), {}), Served("a__b", (1,), {})])


def test_missing_exports_are_reported(project):
    with pytest.raises(UserError, match="no exported model in .*saved_models"):
        write_deployment([], project, project.root / "deploy")
    assert not (project.root / "deploy").exists()


def test_an_unwritable_folder_is_reported(exported):
    (exported.root / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file"):
        write_deployment(served_models(exported), exported, exported.root / "file")
