"""Settings of `mlflow.yaml`: where runs are stored; nothing about models."""

import os
import re
import textwrap
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from keras_dl.errors import UserError

FILE = "mlflow.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tracking(_Section):
    uri: str = Field(
        "sqlite:///mlflow.db",
        description="An SQLite file next to this one, a server (http://host:5000) or a database (postgresql://...).",
    )
    artifacts: str = Field(
        "mlartifacts", description="Folder next to this file, or a URI (s3://bucket/path). A server uses its own."
    )
    tags: dict[str, str | int | float] = Field({}, description="Set on every run, for example {team: speech}.")


class SystemMetrics(_Section):
    enabled: bool = Field(True, description="CPU, memory, disk, network, and GPU if there is one, for every run.")
    interval: float = Field(5.0, gt=0, description="Seconds between two samples.")


class Registry(_Section):
    champion: str = Field("champion", min_length=1, description="Alias of the best version on the same test data.")
    challenger: str = Field("challenger", min_length=1, description="Alias of the newest version that did not win.")

    @field_validator("champion", "challenger")
    @classmethod
    def _not_reserved(cls, alias):
        if alias == "latest" or not re.fullmatch(r"(?!v\d+$)[A-Za-z0-9_-]+", alias):
            raise ValueError("an alias consists of letters, digits, _ and -, and must not be latest or v1, v2, ...")
        return alias

    @model_validator(mode="after")
    def _differ(self):
        if self.champion == self.challenger:
            raise ValueError("champion and challenger must have different aliases")
        return self


class UI(_Section):
    host: str = Field("127.0.0.1", description="0.0.0.0 shows your runs to the whole network.")
    port: int = Field(5000, ge=1, le=65535)


class Settings(_Section):
    """The contents of `mlflow.yaml` and the folder that contains it.

    `root` is the project folder. It contains `saved_models/`, `searches/` and `pipelines/`, and relative paths start
    there.
    """

    tracking: Tracking = Tracking()
    system_metrics: SystemMetrics = SystemMetrics()
    registry: Registry = Registry()
    ui: UI = UI()
    root: Path = Field(default_factory=Path.cwd, exclude=True)

    @property
    def saved_models(self) -> Path:
        return self.root / "saved_models"

    @property
    def tracking_uri(self) -> str:
        """The URI of the store, with an absolute path. `MLFLOW_TRACKING_URI` overrides the file."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or self.tracking.uri
        if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////") and uri != "sqlite:///:memory:":
            return f"sqlite:///{self.root / uri.removeprefix('sqlite:///')}"
        return uri

    @property
    def artifact_location(self) -> str | None:
        """Where a new experiment stores its artifacts; None lets a server decide."""
        if self.tracking_uri.startswith(("http://", "https://", "databricks")):
            return None
        artifacts = self.tracking.artifacts
        return artifacts if "://" in artifacts else (self.root / artifacts).as_uri()


def find_root(start: Path | None = None) -> Path:
    """Returns the nearest folder at or above `start`, by default the current one, with an `mlflow.yaml`; else `start`
    itself.
    """
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / FILE).is_file()), start)


def read_settings(root: Path | None = None) -> Settings:
    """Returns the settings of a project folder; the defaults if it has no `mlflow.yaml`."""
    root = find_root(root)
    path = root / FILE
    if not path.is_file():
        return Settings(root=root)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "root" in content:
        raise UserError(f"{path}: expected sections {', '.join(_sections())}. Received: {content!r}")
    try:
        return Settings.model_validate({**content, "root": root})
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(_explain(problem) for problem in error.errors())}") from error


def hide_password(text: str) -> str:
    """Returns the text with the passwords of all URIs replaced by `***`."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", text)


def _sections() -> list[str]:
    return [name for name in Settings.model_fields if name != "root"]


def _explain(problem: dict) -> str:
    *section, key = problem["loc"]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']}. Received: {problem['input']!r}"
    known = list(Settings.model_fields[section[0]].annotation.model_fields) if section else _sections()
    return f"unknown key {where!r}; known keys: {', '.join(known)}"


def default_file() -> str:
    """Returns the text of an `mlflow.yaml` with all defaults and their descriptions, as `keras-dl init` writes it."""
    lines = ["# Where runs are stored; nothing about models. MLFLOW_* variables take precedence over this file."]
    for section in _sections():
        lines += ["", f"{section}:"]
        for name, field in Settings.model_fields[section].annotation.model_fields.items():
            if field.description:
                lines += [f"  # {line}" for line in textwrap.wrap(field.description, 110)]
            lines += [f"  {name}: {yaml.safe_dump(field.default, default_flow_style=True).splitlines()[0]}"]
    return "\n".join(lines) + "\n"
