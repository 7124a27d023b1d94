"""TensorFlow Serving's ModelService over gRPC: model status and configuration updates.

Source: ``model_servers/{model_service_impl,get_model_status_impl}.cc`` of https://github.com/tensorflow/serving.
Deliberately stricter: a configuration is accepted only from this machine, and only with models under one folder.
"""

import dataclasses
import ipaddress
from pathlib import Path
from urllib.parse import unquote

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from keras_dl.serving.server.config import ModelConfig, model_configs
from keras_dl.serving.server.grpc.calls import answered, check_model_spec
from keras_dl.serving.server.grpc.health import THREADS


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The ModelService of a store.

    Args:
        store: `ModelStore`.
        reload_root: the folder that models may be loaded from. None: configuration updates are rejected.
    """

    def __init__(self, store, reload_root: Path | None):
        self._store, self._reload_root = store, reload_root

    def record(self, request, api: str, code: str, seconds: float) -> None:
        """Does nothing: these calls are not counted."""

    @answered
    def GetModelStatus(self, request, context):  # noqa: N802, the service's own name
        """Returns the versions of a model and their states; a label is ignored."""
        check_model_spec(request)
        spec = request.model_spec
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in self._store.status(spec.name, spec.version.value if spec.HasField("version") else None):
            added = response.model_version_status.add(version=status.version)
            added.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
            added.status.error_code = error_codes_pb2.Code.Value(status.error_code)
            added.status.error_message = status.error_message
        return response

    GetModelStatus.experimental_thread_pool = THREADS

    @answered
    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        """Applies a new configuration; answers when its models are available."""
        if not is_local(context.peer()):
            raise _denied("a configuration is accepted only from this machine")
        if self._reload_root is None:
            raise _denied("this server accepts no other configuration")
        self._store.reload([self._inside(config) for config in model_configs(request.config)])
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = error_codes_pb2.OK
        for name in request.metric_names:  # unknown metrics have not increased
            response.metric.add(name=name, int64_value_increase=0)
        return response

    def _inside(self, config: ModelConfig) -> ModelConfig:
        try:
            folder = config.base_path.resolve()
        except (OSError, RuntimeError, ValueError):  # cyclic links, a zero byte
            folder = None
        if folder is None or not folder.is_relative_to(self._reload_root.resolve()):
            raise _denied(f"the base_path of model {config.name} is outside this server's model folder")
        return dataclasses.replace(config, base_path=folder)


def is_local(peer: str) -> bool:
    """Returns whether a peer, in gRPC's notation, is on this machine.

    Example:

    >>> is_local("ipv6:%5B::1%5D:43210"), is_local("unix:/run/server"), is_local("ipv4:10.0.0.7:43210")
    (True, True, False)
    """
    kind, _, address = peer.partition(":")
    if kind in ("unix", "unix-abstract"):
        return True
    if kind not in ("ipv4", "ipv6"):
        return False
    try:
        host = ipaddress.ip_address(unquote(address).rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return False
    return (getattr(host, "ipv4_mapped", None) or host).is_loopback


def _denied(message: str) -> tf.errors.PermissionDeniedError:
    return tf.errors.PermissionDeniedError(None, None, message)
