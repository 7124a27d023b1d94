"""The messages built at run time have the same bytes and text as those of TensorFlow Serving."""

import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_dl.serving.messages import BatchingParameters, ModelServerConfig, MonitoringConfig, PredictionLog

CONFIG = """
model_config_list {
  config {
    name: "digits" base_path: "/models/digits" model_platform: "tensorflow"
    model_version_policy { specific { versions: 2 versions: 5 } }
    version_labels { key: "champion" value: 5 }
    version_labels { key: "challenger" value: 2 }
    logging_config { sampling_config { sampling_rate: 0.5 } log_collector_config { type: "x" filename_prefix: "y" } }
  }
  config { name: "all" model_version_policy { all {} } }
  config { name: "latest" model_version_policy { latest { num_versions: 3 } } }
}
"""


def test_a_configuration_equals_tensorflow_servings():
    theirs = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    ours = text_format.Parse(CONFIG, ModelServerConfig())
    real = text_format.Parse(CONFIG, theirs.ModelServerConfig())
    assert ours.SerializeToString(deterministic=True) == real.SerializeToString(deterministic=True)
    assert theirs.ModelServerConfig.FromString(ours.SerializeToString()) == real
    assert text_format.Parse(text_format.MessageToString(ours), theirs.ModelServerConfig()) == real


def test_setting_a_policy_clears_the_other():
    ours = text_format.Parse(CONFIG, ModelServerConfig())
    policy = ours.model_config_list.config[0].model_version_policy
    policy.latest.num_versions = 1
    assert not policy.HasField("specific")
    assert policy.WhichOneof("choice") == "latest"


def test_a_warmup_record_equals_tensorflow_servings():
    theirs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    real = theirs.PredictionLog()
    real.predict_log.request.model_spec.name = "digits"
    real.predict_log.request.model_spec.version.value = 7
    real.predict_log.request.model_spec.signature_name = "serving_default"
    real.predict_log.request.inputs["image"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0]]))
    real.predict_log.request.output_filter.append("text")
    ours = PredictionLog.FromString(real.SerializeToString())
    assert ours.SerializeToString(deterministic=True) == real.SerializeToString(deterministic=True)
    request = ours.predict_log.request
    assert (request.model_spec.version.value, list(request.output_filter)) == (7, ["text"])
    assert list(request.inputs["image"].tensor_content or request.inputs["image"].float_val)


def test_batching_and_monitoring_parse_the_documented_text_format():
    batching = text_format.Parse(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } max_enqueued_batches { value: 1000000 } "
        "num_batch_threads { value: 8 } allowed_batch_sizes: [8, 128] pad_variable_length_inputs: true",
        BatchingParameters(),
    )
    assert (batching.max_batch_size.value, list(batching.allowed_batch_sizes)) == (128, [8, 128])
    assert batching.HasField("batch_timeout_micros")
    assert not batching.HasField("max_execution_batch_size")
    text = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
    monitoring = text_format.Parse(text, MonitoringConfig())
    assert monitoring.prometheus_config.enable


def test_an_unknown_field_is_an_error():
    with pytest.raises(text_format.ParseError, match="no field named"):
        text_format.Parse("model_config_list { config { nmae: 'x' } }", ModelServerConfig())
