"""TensorFlow Serving's messages for configuration and warm-up, without its package.

`tensorflow-serving-api` is only installed for gRPC (the `grpc` extra), and has no messages for monitoring and batching.
The messages are built at run time in a separate descriptor pool, to avoid conflicts with that package. Field numbers
are from ``config/*.proto``, ``apis/*.proto`` and ``session_bundle_config.proto`` of
https://github.com/tensorflow/serving.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from tensorflow.core.framework import tensor_pb2

# message -> fields "number type name", separated by commas; `*` marks a repeated field, `|` a field of a oneof.
_MESSAGES = {
    "Latest": "1 uint32 num_versions",
    "All": "",
    "Specific": "1 int64* versions",
    "ServableVersionPolicy": "100 Latest| latest, 101 All| all, 102 Specific| specific",
    "LogCollectorConfig": "1 string type, 2 string filename_prefix",
    "SamplingConfig": "1 double sampling_rate, 2 int32 attributes",
    "LoggingConfig": "1 LogCollectorConfig log_collector_config, 2 SamplingConfig sampling_config",
    "ModelConfig": "1 string name, 2 string base_path, 3 int32 model_type, 4 string model_platform, "
    "6 LoggingConfig logging_config, 7 ServableVersionPolicy model_version_policy, 8 string:int64 version_labels",
    "ModelConfigList": "1 ModelConfig* config",
    "ModelServerConfig": "1 ModelConfigList| model_config_list",
    "PrometheusConfig": "1 bool enable, 2 string path",
    "MonitoringConfig": "1 PrometheusConfig prometheus_config",
    "BatchingParameters": "1 Int64Value max_batch_size, 2 Int64Value batch_timeout_micros, "
    "3 Int64Value max_enqueued_batches, 4 Int64Value num_batch_threads, 5 StringValue thread_pool_name, "
    "6 int64* allowed_batch_sizes, 7 bool pad_variable_length_inputs, 8 BoolValue enable_large_batch_splitting, "
    "9 Int64Value max_execution_batch_size",
    "ModelSpec": "1 string name, 2 Int64Value| version, 4 string| version_label, 3 string signature_name",
    "PredictRequest": "1 ModelSpec model_spec, 2 string:TensorProto inputs, 3 string* output_filter",
    "PredictLog": "1 PredictRequest request",
    "PredictionLog": "6 PredictLog| predict_log",
}
_EXTERNAL = {
    "Int64Value": ".google.protobuf.Int64Value",
    "StringValue": ".google.protobuf.StringValue",
    "BoolValue": ".google.protobuf.BoolValue",
    "TensorProto": ".tensorflow.TensorProto",
}
_PACKAGE = "tensorflow.serving"
_Field = descriptor_pb2.FieldDescriptorProto


def _add_field(message, number: str, kind: str, name: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if ":" in kind:  # a map is a repeated field of key-value entries
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        for position, part in enumerate(kind.split(":"), start=1):
            _add_field(entry, str(position), part, ("key", "value")[position - 1])
        field.type, field.label = _Field.TYPE_MESSAGE, _Field.LABEL_REPEATED
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    if kind.endswith("*"):
        field.label = _Field.LABEL_REPEATED
    if kind.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    kind = kind.rstrip("*|")
    if kind in _MESSAGES or kind in _EXTERNAL:
        field.type, field.type_name = _Field.TYPE_MESSAGE, _EXTERNAL.get(kind, f".{_PACKAGE}.{kind}")
    else:
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")


def _build() -> dict:
    pool = descriptor_pool.DescriptorPool()
    added = set()

    def add(descriptor) -> None:
        if descriptor.name not in added:
            added.add(descriptor.name)
            for dependency in descriptor.dependencies:
                add(dependency)
            pool.AddSerializedFile(descriptor.serialized_pb)

    file = descriptor_pb2.FileDescriptorProto(name="keras_dl/serving.proto", package=_PACKAGE, syntax="proto3")
    for external in (wrappers_pb2.DESCRIPTOR, tensor_pb2.DESCRIPTOR):
        add(external)
        file.dependency.append(external.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add_field(message, *field.split())
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_classes = _build()
BatchingParameters = _classes["BatchingParameters"]
ModelServerConfig = _classes["ModelServerConfig"]
MonitoringConfig = _classes["MonitoringConfig"]
PredictionLog = _classes["PredictionLog"]
