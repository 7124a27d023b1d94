"""`keras-dl serve --write-config DIR`: all that TensorFlow Serving itself needs, in a folder.

`models.config`, `batching_parameters.txt` and `monitoring.config` are the server's own files, `compose.yaml` starts it
with MLflow beside it, `kubernetes.yaml` and `kserve.yaml` are for a cluster.
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
    CONTAINER_MODELS,
    LIVE,
    METRICS_PATH,
    Served,
    batching_parameters,
    model_config_text,
    model_configs,
    monitoring_config,
    served_models,
    write_model_config,
)
from keras_dl.tracking.settings import Settings

IMAGE = "tensorflow/serving:latest"
_APP = "keras-dl-serving"
_POLL_SECONDS = 5
_GRPC, _REST = 8500, 8501


def write_deployment(settings: Settings, folder: Path) -> list[Path]:
    """Writes the files for every exported model, and brings `saved_models/models.config` up to date.

    Args:
        settings: of `mlflow.yaml`; the registry is asked and must be connected to.
        folder: made if missing; files of the same names in it are replaced.

    Returns:
        The files.

    Raises:
        UserError: if no model is exported, or the folder cannot be written.
    """
    models = served_models(settings)
    if not models:
        raise UserError(
            f"expected an exported model in {settings.saved_models} and found none: keras-dl tune makes one"
        )
    snapshot = f"# A copy; {LIVE} in saved_models/ is the one that promote and rollback keep up to date.\n"
    files = {
        LIVE: snapshot + model_config_text(model_configs(models)),
        "batching_parameters.txt": batching_parameters(),
        "monitoring.config": monitoring_config(),
        "compose.yaml": _yaml("docker compose up", compose(models, settings, folder)),
        "kubernetes.yaml": _yaml("kubectl apply -f kubernetes.yaml", *kubernetes(models)),
        "kserve.yaml": _yaml("kubectl apply -f kserve.yaml, in a cluster with KServe", *kserve(models)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_model_config(settings)
        for name, content in files.items():
            write_bytes(folder / name, content.encode())
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / name for name in files]


def compose(models: Sequence[Served], settings: Settings, folder: Path) -> dict:
    """A Compose file: TensorFlow Serving on the loopback ports 8500 and 8501, and MLflow's UI on 5000.

    Args:
        models: from `served_models`.
        settings: for the project's folder, `saved_models/`, and where the UI listens.
        folder: that holds the other files; paths are relative to it.
    """
    root = _relative(settings.root, folder)
    mlflow = f"ghcr.io/mlflow/mlflow:v{importlib.metadata.version('mlflow')}"
    return {
        "name": _APP,
        "services": {
            "serving": {
                "image": IMAGE,
                "command": _flags(f"{CONTAINER_MODELS}/{LIVE}", "/configuration"),
                "ports": [f"127.0.0.1:{_GRPC}:{_GRPC}", f"127.0.0.1:{_REST}:{_REST}"],
                "volumes": [f"{root}/saved_models:{CONTAINER_MODELS}:ro", "./:/configuration:ro"],
                # The image has no curl; bash speaks TCP.
                "healthcheck": {
                    "test": ["CMD", "bash", "-c", " && ".join(_available(model.name) for model in models)],
                    "interval": "10s",
                    "timeout": "5s",
                    "retries": 6,
                    "start_period": "60s",
                },
                "restart": "unless-stopped",
                "read_only": True,
                "security_opt": ["no-new-privileges:true"],
            },
            "mlflow": {
                "image": mlflow,
                "command": [
                    *("mlflow", "server", "--host", "0.0.0.0", "--port", "5000"),
                    *("--backend-store-uri", "sqlite:////project/mlflow.db"),
                ],
                "ports": [f"127.0.0.1:{settings.ui.port}:5000"],
                "volumes": [f"{root}:/project"],
                "working_dir": "/project",
                "restart": "unless-stopped",
            },
        },
    }


def kubernetes(models: Sequence[Served]) -> list[dict]:
    """A Deployment of TensorFlow Serving with its ConfigMap and Service.

    The volume claim `saved-models` is yours to make: its root holds what `saved_models/` holds.

    Args:
        models: from `served_models`.
    """
    labels = {"app.kubernetes.io/name": _APP}
    probe = {"httpGet": {"path": _path(models[0].name), "port": "rest"}, "periodSeconds": 10}
    container = {
        "name": "serving",
        "image": IMAGE,
        "args": _flags("/configuration/models.config", "/configuration"),
        "ports": [{"name": "grpc", "containerPort": _GRPC}, {"name": "rest", "containerPort": _REST}],
        "startupProbe": {**probe, "failureThreshold": 60},
        "readinessProbe": probe,
        "livenessProbe": {"tcpSocket": {"port": "rest"}, "periodSeconds": 20},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "models", "mountPath": CONTAINER_MODELS, "readOnly": True},
            {"name": "configuration", "mountPath": "/configuration", "readOnly": True},
        ],
    }
    volumes = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "saved-models", "readOnly": True}},
        {"name": "configuration", "configMap": {"name": _APP}},
    ]
    metrics = {"prometheus.io/scrape": "true", "prometheus.io/path": METRICS_PATH, "prometheus.io/port": str(_REST)}
    configuration = {
        LIVE: model_config_text(model_configs(models)),
        "batching_parameters.txt": batching_parameters(),
        "monitoring.config": monitoring_config(),
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
    """An InferenceService of KServe for each model, which serves the newest version in the claim `saved-models`.

    Args:
        models: from `served_models`.
    """
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            # A name in a cluster has no underscores; clients ask for this one.
            "metadata": {"name": re.sub("[^a-z0-9]+", "-", model.name.lower()).strip("-")},
            "spec": {
                "predictor": {
                    "model": {
                        "modelFormat": {"name": "tensorflow"},
                        "storageUri": f"pvc://saved-models/{model.name}",
                    }
                }
            },
        }
        for model in models
    ]


def _flags(config: str, folder: str) -> list[str]:
    return [
        f"--model_config_file={config}",
        f"--model_config_file_poll_wait_seconds={_POLL_SECONDS}",
        "--allow_version_labels_for_unavailable_models=true",
        # Only models whose export says so, in batching_params.pbtxt: not every model's rows are independent.
        "--enable_batching=true",
        "--enable_per_model_batching_parameters=true",
        f"--batching_parameters_file={folder}/batching_parameters.txt",
        f"--monitoring_config_file={folder}/monitoring.config",
    ]


def _available(name: str) -> str:
    request = f"printf 'GET %s HTTP/1.0\\r\\n\\r\\n' {shlex.quote(_path(name))}"
    return f"exec 3<>/dev/tcp/127.0.0.1/{_REST} && {request} >&3 && grep -q AVAILABLE <&3"


def _path(name: str) -> str:
    return f"/v1/models/{quote(name, safe='')}"


def _relative(path: Path, start: Path) -> str:
    relative = os.path.relpath(path.resolve(), start.resolve())
    return relative if relative.startswith(".") else f"./{relative}"


def _yaml(command: str, *documents: dict) -> str:
    return f"# {command}\n" + yaml.safe_dump_all(documents, sort_keys=False, width=120)
