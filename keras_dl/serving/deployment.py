"""`keras-dl serve --write-config DIR`: writes the files that a deployment of TensorFlow Serving needs.

The server reads `models.config`, `batching_parameters.txt` and `monitoring.config`; `compose.yaml` starts it together
with MLflow; `kubernetes.yaml` and `kserve.yaml` are for a cluster.
"""

import importlib.metadata
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import yaml

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving.configuration import (
    BATCHING,
    CONTAINER_MODELS,
    IMAGE,
    METRICS_PATH,
    MONITORING,
    Served,
    batching_parameters,
    model_config_text,
    model_configs,
    monitoring_config,
    server_flags,
)
from keras_dl.serving.server.source import LIVE
from keras_dl.tracking.settings import Settings

_APP = "keras-dl-serving"
_FOLDER = "/configuration"
_GRPC, _REST = 8500, 8501  # inside the container


def write_deployment(
    models: Sequence[Served],
    settings: Settings,
    folder: Path,
    names: Sequence[str] = (),
    rest_port: int = _REST,
    grpc_port: int = _GRPC,
) -> list[Path]:
    """Writes the files for exported models and returns their paths; existing files of the same names are replaced.

    Without names, all models are deployed, including those that are exported later. The ports are those of this
    machine, for Compose. UserError is raised if a model has no export or the folder cannot be written.
    """
    there = ", ".join(model.name for model in models) or "none; keras-dl tune exports one"
    missing = sorted(set(names) - {model.name for model in models})
    if missing or not models:
        what = f"no export of {', '.join(missing)}" if missing else "no exported model"
        raise UserError(f"{what} in {settings.saved_models}. Available: {there}")
    models = [model for model in models if not names or model.name in names]
    # All models use the file that promote and rollback keep up to date; a selection gets a copy of part of it.
    config = f"{_FOLDER}/{LIVE}" if names else f"{CONTAINER_MODELS}/{LIVE}"
    files = {
        LIVE: f"# A copy; promote and rollback move the labels in saved_models/{LIVE}.\n"
        + model_config_text(model_configs(models)),
        BATCHING: batching_parameters(),
        MONITORING: monitoring_config(),
        "compose.yaml": _yaml("docker compose up", compose(models, settings, folder, config, rest_port, grpc_port)),
        "kubernetes.yaml": _yaml("kubectl apply -f kubernetes.yaml", *kubernetes(models, config)),
        "kserve.yaml": _yaml("kubectl apply -f kserve.yaml, in a cluster with KServe", *kserve(models)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_bytes(folder / name, content.encode())
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / name for name in files]


def compose(
    models: Sequence[Served],
    settings: Settings,
    folder: Path,
    config: str = f"{CONTAINER_MODELS}/{LIVE}",
    rest_port: int = _REST,
    grpc_port: int = _GRPC,
) -> dict:
    """Returns a Compose file with TensorFlow Serving on loopback ports, and MLflow's UI if the store is an SQLite file.

    Paths are relative to `folder`, that of the other files; `config` is the `models.config` inside the container.
    """
    serving = {
        "image": IMAGE,
        "command": server_flags(config, _FOLDER),
        "ports": [f"127.0.0.1:{grpc_port}:{_GRPC}", f"127.0.0.1:{rest_port}:{_REST}"],
        "volumes": [f"{_relative(settings.saved_models, folder)}:{CONTAINER_MODELS}:ro", f"./:{_FOLDER}:ro"],
        "healthcheck": {
            "test": ["CMD", *_health_command(models)],
            "interval": "10s",
            "timeout": "5s",
            "retries": 6,
            "start_period": "60s",
        },
        "restart": "unless-stopped",
        "read_only": True,
        "security_opt": ["no-new-privileges:true"],
    }
    services = {"serving": serving}
    if settings.tracking_uri.startswith("sqlite:////"):  # a tracking server has its own UI
        root = settings.root.resolve()
        services["mlflow"] = {
            "image": f"ghcr.io/mlflow/mlflow:v{importlib.metadata.version('mlflow')}",
            "command": [
                *("mlflow", "server", "--host", "0.0.0.0", "--port", "5000"),
                *("--backend-store-uri", settings.tracking_uri),
            ],
            "ports": [f"127.0.0.1:{settings.ui.port}:5000"],
            # The store refers to artifacts by their path on the host; files keep their owner.
            "volumes": [f"{root}:{root}"],
            "working_dir": str(root),
            "user": f"{os.getuid()}:{os.getgid()}",
            "restart": "unless-stopped",
        }
    return {"name": _APP, "services": services}


def kubernetes(models: Sequence[Served], config: str = f"{CONTAINER_MODELS}/{LIVE}") -> list[dict]:
    """Returns a Deployment of TensorFlow Serving with its ConfigMap and Service.

    The user creates the volume claim `saved-models`, whose root has the contents of `saved_models/`, including
    `models.config`.
    """
    labels = {"app.kubernetes.io/name": _APP}
    probe = {"exec": {"command": _health_command(models)}, "periodSeconds": 10, "timeoutSeconds": 5}
    container = {
        "name": "serving",
        "image": IMAGE,
        "args": server_flags(config, _FOLDER),
        "ports": [{"name": "grpc", "containerPort": _GRPC}, {"name": "rest", "containerPort": _REST}],
        "startupProbe": {**probe, "failureThreshold": 60},
        "readinessProbe": probe,
        "livenessProbe": {"tcpSocket": {"port": "rest"}, "periodSeconds": 20},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "models", "mountPath": CONTAINER_MODELS, "readOnly": True},
            {"name": "configuration", "mountPath": _FOLDER, "readOnly": True},
        ],
    }
    volumes = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "saved-models", "readOnly": True}},
        {"name": "configuration", "configMap": {"name": _APP}},
    ]
    metrics = {"prometheus.io/scrape": "true", "prometheus.io/path": METRICS_PATH, "prometheus.io/port": str(_REST)}
    configuration = {
        LIVE: model_config_text(model_configs(models)),
        BATCHING: batching_parameters(),
        MONITORING: monitoring_config(),
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _APP, "labels": labels}, "data": configuration},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": _APP, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": metrics},
                    "spec": {"containers": [container], "volumes": volumes},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _APP, "labels": labels},
            "spec": {
                "selector": labels,
                "ports": [
                    {"name": "grpc", "port": _GRPC, "targetPort": "grpc"},
                    {"name": "rest", "port": _REST, "targetPort": "rest"},
                ],
            },
        },
    ]


def kserve(models: Sequence[Served]) -> list[dict]:
    """Returns a KServe InferenceService for each model, which serves the newest version in the claim `saved-models`.

    Names in a cluster consist of a-z, 0-9 and -; UserError is raised if two models get the same one.
    """
    services = {}
    for model in models:
        name = "-".join(re.findall("[a-z0-9]+", model.name.lower()))
        name = name if name[:1].isalpha() else f"model-{name}".rstrip("-")
        if name in services:
            raise UserError(f"two models have the name {name} in a cluster; rename {model.name}")
        services[name] = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {
                "predictor": {
                    "model": {
                        "modelFormat": {"name": "tensorflow"},
                        # KServe's default version is years old.
                        "runtimeVersion": IMAGE.rpartition(":")[2],
                        "storageUri": f"pvc://saved-models/{model.name}",
                    }
                }
            },
        }
    return list(services.values())


def _health_command(models: Sequence[Served]) -> list[str]:
    """Returns a command that checks every model from inside the container with bash, because the image has no curl."""
    asked = []
    for model in models:
        path = shlex.quote(f"/v1/models/{quote(model.name, safe='')}")
        request = f"printf 'GET %s HTTP/1.0\\r\\n\\r\\n' {path} >&3"
        asked.append(f"exec 3<>/dev/tcp/127.0.0.1/{_REST} && {request} && grep -q '\"AVAILABLE\"' <&3")
    return ["bash", "-c", " && ".join(asked)]


def _relative(path: Path, start: Path) -> str:
    relative = os.path.relpath(path.resolve(), start.resolve())
    return relative if relative.startswith(".") else f"./{relative}"


def _yaml(command: str, *documents: dict) -> str:
    return f"# {command}\n" + yaml.safe_dump_all(documents, sort_keys=False, width=120)
