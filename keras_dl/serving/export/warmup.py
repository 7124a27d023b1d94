"""Warm-up requests, which a server replays before a version is available, because the first requests are hundreds of
times slower.

TensorFlow Serving reads up to 1000 of them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of
`PredictionLog`. If one fails, the version is not served, so only requests that were answered are written.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_dl.serving.messages import PredictionLog

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
# Limits for a fast start: bytes of a record, and of the file.
LARGEST_RECORD, LARGEST_FILE = 4 * 2**20, 16 * 2**20


def prediction_log(name: str, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Serializes a predict request as TensorFlow Serving logs it, without a version number."""
    message = PredictionLog()
    request = message.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    for key, array in inputs.items():
        # These messages use a separate descriptor pool, whose TensorProto is another class with the same wire format.
        request.inputs[key].MergeFromString(tf.make_tensor_proto(array).SerializeToString())
    return message.SerializeToString()


def write_warmup(folder: Path, name: str, requests: Iterable[tuple[str, Iterable[Mapping[str, np.ndarray]]]]) -> int:
    """Writes the warm-up requests of a version and returns their number; without requests, no file is written.

    `requests` are pairs of a signature's name and the `{input: array}` requests that it answers. Those larger than 4
    MiB, and those that would make the file larger than 16 MiB, are omitted.
    """
    records, size = [], 0
    for record in (prediction_log(name, key, inputs) for key, several in requests for inputs in several):
        if len(record) <= LARGEST_RECORD and size + len(record) <= LARGEST_FILE:
            records.append(record)
            size += len(record)
    if records:
        path = folder / WARMUP
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
    return len(records)
