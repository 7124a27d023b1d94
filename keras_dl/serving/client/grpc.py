"""Client side of TensorFlow Serving's gRPC API. Requires the `grpc` extra, and therefore TensorFlow."""

from collections.abc import Mapping

import grpc
import numpy as np
from google.protobuf import json_format
from tensorflow.core.example import example_pb2
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from keras_dl.errors import UserError
from keras_dl.serving.client.errors import ClosedWithoutAnswer, Unavailable, not_reachable, refused, timed_out
from keras_dl.serving.client.values import Signature, Target, VersionStatus, read_signatures
from keras_dl.serving.tensors import to_array, to_proto

Arrays = dict[str, np.ndarray]
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),  # the default is 4 MiB
    ("grpc.enable_http_proxy", 0),
    # Reconnects about a second after a server returns; the defaults take 6 seconds after an outage of 10 seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class GrpcTransport:
    """Sends requests over one channel to a URL such as "grpc://127.0.0.1:8500". Thread-safe."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        host, _, port = self._url.removeprefix("grpc://").rpartition(":")
        if not host or "/" in host or not port.isdigit():
            raise UserError(f"expected a server's URL such as grpc://127.0.0.1:8500. Received: {url}")
        self._channel = grpc.insecure_channel(f"{host}:{port}", options=_OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def predict(self, target: Target, signature_name: str, inputs: Arrays, signature, timeout: float) -> Arrays:
        """Returns the outputs of a signature; `signature` is unused."""
        request = predict_pb2.PredictRequest(model_spec=_model_spec(target, signature_name))
        for key, array in inputs.items():
            request.inputs[key].CopyFrom(to_proto(array))
        response = self._request(self._predictions.Predict, request, target, timeout)
        return {key: to_array(proto) for key, proto in response.outputs.items()}

    def examples(self, target: Target, signature_name: str, examples: list[dict], method: str, timeout: float) -> list:
        """Returns for each example (label, score) pairs for "classify", or a number for "regress"."""
        if method == "classify":
            request, call = classification_pb2.ClassificationRequest(), self._predictions.Classify
        else:
            request, call = regression_pb2.RegressionRequest(), self._predictions.Regress
        request.model_spec.CopyFrom(_model_spec(target, signature_name))
        request.input.example_list.examples.extend(_example(features) for features in examples)
        result = self._request(call, request, target, timeout).result
        if method == "classify":
            return [[(found.label, found.score) for found in row.classes] for row in result.classifications]
        return [row.value for row in result.regressions]

    def status(self, target: Target, timeout: float) -> list[VersionStatus]:
        """Returns the status of each version of a model."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec(target))
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            VersionStatus(
                found.version,
                states.Name(found.state),
                error_codes_pb2.Code.Name(found.status.error_code),
                found.status.error_message,
            )
            for found in self._request(self._models.GetModelStatus, request, target, timeout).model_version_status
        ]

    def metadata(self, target: Target, timeout: float) -> dict[str, Signature]:
        """Returns the signatures of a version."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_model_spec(target), metadata_field=["signature_def"]
        )
        response = self._request(self._predictions.GetModelMetadata, request, target, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        described = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
        return read_signatures(described.get("signature_def", {}))

    def _request(self, call, request, target: Target, timeout: float):
        try:
            return call(request, timeout=timeout)
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            unreachable = details.startswith("failed to connect")
            kind = ClosedWithoutAnswer if details == "Socket closed" or "Connection reset" in details else Unavailable
            raise kind(not_reachable(self._url, target.name) if unreachable else refused(target.name, details))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:  # from either side: both know the deadline
            raise UserError(timed_out(self._url, timeout))
        raise UserError(refused(target.name, details))


def _model_spec(target: Target, signature_name: str = ""):
    spec = model_pb2.ModelSpec(name=target.name, signature_name=signature_name)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _example(features: Mapping[str, np.ndarray]) -> example_pb2.Example:
    example = example_pb2.Example()
    for name, array in features.items():
        feature, values = example.features.feature[name], array.ravel().tolist()
        if array.dtype == object:
            feature.bytes_list.value.extend(values)
        elif array.dtype.kind == "f":
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return example
