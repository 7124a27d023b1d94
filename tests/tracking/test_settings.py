"""`mlflow.yaml`: defaults, validation, environment variables and relative paths."""

from pathlib import Path

import pytest
import yaml

from keras_dl.errors import UserError
from keras_dl.tracking.settings import Settings, default_file, find_root, read_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def rejection(folder, text):
    """Returns the error message for a file with this text."""
    (folder / "mlflow.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_settings(folder)
    assert str(folder / "mlflow.yaml") in str(caught.value)
    return str(caught.value)


def test_the_shipped_file_has_the_defaults_of_the_code():
    assert (ROOT / "mlflow.yaml").read_text(encoding="utf-8") == default_file()


def test_the_default_file_is_equivalent_to_no_file(tmp_path):
    without = read_settings(tmp_path)
    (tmp_path / "mlflow.yaml").write_text(default_file(), encoding="utf-8")
    assert read_settings(tmp_path) == without == Settings(root=tmp_path)
    content = yaml.safe_load(default_file())
    assert content["tracking"] == {"uri": "sqlite:///mlflow.db", "artifacts": "mlartifacts", "tags": {}}
    assert content["ui"] == {"host": "127.0.0.1", "port": 5000}


def test_every_value_can_be_set(tmp_path):
    text = """
tracking: {uri: "http://tracker:5000", artifacts: "s3://bucket/runs", tags: {team: speech}}
system_metrics: {enabled: false, interval: 0.5}
registry: {champion: best, challenger: other}
ui: {host: 0.0.0.0, port: 8000}
"""
    (tmp_path / "mlflow.yaml").write_text(text, encoding="utf-8")
    settings = read_settings(tmp_path)
    assert settings.tracking_uri == "http://tracker:5000" and settings.artifact_location is None
    assert settings.tracking.tags == {"team": "speech"}
    assert (settings.system_metrics.enabled, settings.system_metrics.interval) == (False, 0.5)
    assert (settings.registry.champion, settings.registry.challenger) == ("best", "other")
    assert (settings.ui.host, settings.ui.port) == ("0.0.0.0", 8000)


def test_an_empty_file_means_the_defaults(tmp_path):
    (tmp_path / "mlflow.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert read_settings(tmp_path) == Settings(root=tmp_path)


def test_an_unknown_key_is_rejected_with_the_known_keys(tmp_path):
    message = rejection(tmp_path, "tracking: {url: sqlite:///runs.db}")
    assert "unknown key 'tracking.url'; known keys: uri, artifacts, tags" in message


def test_an_unknown_section_is_rejected_with_the_known_sections(tmp_path):
    message = rejection(tmp_path, "model: {units: 3}")
    assert "unknown key 'model'; known keys: tracking, system_metrics, registry, ui" in message


@pytest.mark.parametrize(
    "text, where, received",
    [
        ("ui: {port: 70000}", "ui.port: ", "70000"),
        ("ui: {port: five}", "ui.port: ", "'five'"),
        ("system_metrics: {interval: 0}", "system_metrics.interval: ", "0"),
        ("system_metrics: {enabled: perhaps}", "system_metrics.enabled: ", "'perhaps'"),
        ("registry: {champion: ''}", "registry.champion: ", "''"),
        ("tracking: {tags: [speech]}", "tracking.tags: ", "['speech']"),
        ("tracking: sqlite:///runs.db", "tracking: ", "'sqlite:///runs.db'"),
    ],
)
def test_an_invalid_value_is_rejected_and_shown(tmp_path, text, where, received):
    message = rejection(tmp_path, text)
    assert where in message and message.endswith(f"Received: {received}")


def test_all_problems_are_reported_at_once(tmp_path):
    message = rejection(tmp_path, "ui: {port: 0, color: red}\nregister: {}")
    assert "ui.port" in message and "'ui.color'" in message and "'register'" in message


@pytest.mark.parametrize("text", ["tracking: [", "ui: {port: 1}}", "a: b: c"])
def test_invalid_yaml_is_rejected_with_its_line(tmp_path, text):
    message = rejection(tmp_path, text)
    assert "is not valid YAML" in message and "line 1" in message and "\n" not in message


def test_a_binary_file_is_rejected(tmp_path):
    (tmp_path / "mlflow.yaml").write_bytes(b"ui: \xff\xfe")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_settings(tmp_path)


@pytest.mark.parametrize("text", ["- tracking", "just words", "root: /tmp"])
def test_a_file_without_sections_is_rejected(tmp_path, text):
    assert "expected sections tracking, system_metrics, registry, ui" in rejection(tmp_path, text)


def test_the_environment_overrides_the_file(tmp_path, monkeypatch):
    (tmp_path / "mlflow.yaml").write_text("tracking: {uri: sqlite:///runs.db}", encoding="utf-8")
    settings = read_settings(tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert settings.tracking_uri == "http://tracker:5000"
    assert settings.artifact_location is None


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "mlflow.yaml").write_text("tracking: {uri: 'sqlite:///store/runs.db', artifacts: files}", "utf-8")
    deep = tmp_path / "pipelines" / "speech"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    settings = read_settings()
    assert settings.root == tmp_path
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/store/runs.db"
    assert settings.artifact_location == (tmp_path / "files").as_uri()
    assert settings.saved_models == tmp_path / "saved_models"


@pytest.mark.parametrize("uri", ["sqlite:////data/runs.db", "sqlite:///:memory:", "postgresql://host/runs"])
def test_an_absolute_uri_is_not_changed(tmp_path, uri):
    assert Settings(tracking={"uri": uri}, root=tmp_path).tracking_uri == uri


def test_artifacts_can_be_stored_outside_the_project(tmp_path):
    assert Settings(tracking={"artifacts": "s3://bucket/runs"}, root=tmp_path).artifact_location == "s3://bucket/runs"
    assert Settings(tracking={"artifacts": "/data/runs"}, root=tmp_path).artifact_location == "file:///data/runs"


def test_the_root_is_the_nearest_parent_folder_with_the_file(tmp_path):
    inner = tmp_path / "inner"
    deep = inner / "a" / "b"
    deep.mkdir(parents=True)
    assert find_root(deep) == deep
    (tmp_path / "mlflow.yaml").touch()
    assert find_root(deep) == tmp_path
    (inner / "mlflow.yaml").touch()
    assert find_root(deep) == inner
    # A folder named mlflow.yaml does not count.
    (deep / "mlflow.yaml").mkdir()
    assert find_root(deep) == inner


def test_settings_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        Settings(root=tmp_path).ui.port = 1


@pytest.mark.parametrize("aliases", [{"champion": "latest"}, {"challenger": "v2"}, {"champion": "a b"}])
def test_invalid_and_reserved_aliases_are_rejected(tmp_path, aliases):
    (tmp_path / "mlflow.yaml").write_text(yaml.safe_dump({"registry": aliases}))
    with pytest.raises(UserError, match="an alias consists of letters"):
        read_settings(tmp_path)


def test_equal_aliases_are_rejected(tmp_path):
    (tmp_path / "mlflow.yaml").write_text("registry: {champion: best, challenger: best}")
    with pytest.raises(UserError, match="must have different aliases"):
        read_settings(tmp_path)


def test_keys_that_are_not_strings_are_rejected(tmp_path):
    (tmp_path / "mlflow.yaml").write_text("1: 2")
    with pytest.raises(UserError, match="mlflow.yaml: "):
        read_settings(tmp_path)
